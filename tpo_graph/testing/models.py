"""Fakes for examples, tests and your own tests: a scripted chat model and a scripted reward.

They need no network, no weights and no key. They are fakes: nothing they produce says anything
about how well TPO works.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

Script = Callable[[Sequence[BaseMessage], int], str]
"""(messages, how many replies were given before) -> the reply."""


def draft_then_improve(messages: Sequence[BaseMessage], index: int) -> str:
    """A script that plays all four calls of TPO: each rewrite carries one more "!" and a number.

    It tells the calls apart by the words of the prompt sets that come with the package.
    """
    prompt = messages[-1].text
    if "</improved_answer>" in prompt:
        asked = "\n".join(message.text for message in messages)
        chosen = asked.split("<chosen_answer>\n")[-1].split("\n</chosen_answer>")[0]
        return f"<improved_answer>{chosen.split(' (')[0]}! ({index})</improved_answer>"
    if "fewest changes" in prompt:
        return "1. Add an exclamation mark."
    if "<chosen_answer>" in prompt:
        return "The chosen answer is livelier than the rejected one."
    return f"Answer ({index})"


class ScriptedChatModel(BaseChatModel):
    """A fake chat model that answers from a list or a function, in order, and logs its calls.

    Like OpenAI-compatible models it takes `n`: that many replies from one call.
    """

    replies: Sequence[str] | Script = draft_then_improve
    """Texts to give in order (over again at the end), or a function that makes them."""
    n: int = 1
    """Replies per call."""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    _given: Iterator[int] = PrivateAttr(default_factory=count)
    _calls: list[tuple[list[BaseMessage], dict[str, Any]]] = PrivateAttr(
        default_factory=list[tuple[list[BaseMessage], dict[str, Any]]]
    )

    @property
    def calls(self) -> list[tuple[list[BaseMessage], dict[str, Any]]]:
        """(messages, parameters in force) of every call so far, in order."""
        return self._calls

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        names = ("temperature", "top_p", "max_tokens", "seed")
        return {name: getattr(self, name) for name in names}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        names = ("n", "temperature", "top_p", "max_tokens", "seed")
        parameters = {name: kwargs.get(name, getattr(self, name)) for name in names}
        self._calls.append((messages, parameters))
        texts = [self._next(messages) for _ in range(parameters["n"])]
        prompt_tokens = sum(len(message.text.split()) for message in messages)
        completion_tokens = sum(len(text.split()) for text in texts)
        return ChatResult(
            generations=[ChatGeneration(message=AIMessage(text)) for text in texts],
            llm_output={
                "token_usage": {
                    "prompt_tokens": prompt_tokens,
                    "completion_tokens": completion_tokens,
                    "total_tokens": prompt_tokens + completion_tokens,
                }
            },
        )

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._generate(messages, stop, None, **kwargs)

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        return llm_outputs[0] or {}

    def _next(self, messages: Sequence[BaseMessage]) -> str:
        index = next(self._given)  # shared with the copies that `generate` makes
        if callable(self.replies):
            return self.replies(messages, index)
        return self.replies[index % len(self.replies)]


def prefer_longer(query: str, response: str) -> float:
    """A fake reward: the length of the response in characters."""
    return float(len(response))
