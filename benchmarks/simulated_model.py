"""The simulated engine as a chat model in the same process, for virtual time: no HTTP, no threads.

Replies are as long as the study in docs/performance.md found them (lognormal, median 350 tokens,
sigma 0.5) and say nothing.
"""

import math
import random
from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from benchmarks.engine import CHARACTERS_PER_TOKEN, Engine
from tpo_graph.conversation import Turn

MEDIAN, SIGMA = 350, 0.5


class Replies:
    """Lengths and texts of replies: the same ones for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def lengths(self, n: int) -> list[int]:
        """Tokens of `n` replies."""
        draws = (self._random.lognormvariate(math.log(MEDIAN), SIGMA) for _ in range(n))
        return [max(16, round(draw)) for draw in draws]

    def text(self, tokens: int) -> str:
        """A text of so many tokens that no other text begins like, fit to be an update too."""
        inside = f"{self._random.getrandbits(40):012x} "
        shell = "<improved_answer></improved_answer>"
        return (
            f"<improved_answer>{inside.ljust(CHARACTERS_PER_TOKEN * tokens - len(shell), 'w')}"
            "</improved_answer>"
        )


def prompt_text(messages: Sequence[BaseMessage]) -> str:
    """What a chat template makes of messages, roughly; it ends where the reply begins."""
    return "".join(f"<|{message.type}|>{message.text}<|end|>" for message in messages) + "<|ai|>"


class SimulatedChatModel(BaseChatModel):
    """A chat model that takes as long as the engine says."""

    engine: Any
    replies: Any
    n: int = 1

    @property
    def _llm_type(self) -> str:
        return "simulated"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        raise NotImplementedError("virtual time passes on the event loop only")

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        engine: Engine = self.engine
        replies: Replies = self.replies
        prompt, lengths = prompt_text(messages), replies.lengths(self.n)
        texts = [replies.text(length) for length in lengths]
        cached = await engine.generate(prompt, texts)
        usage = {
            "prompt_tokens": len(prompt) // CHARACTERS_PER_TOKEN,
            "completion_tokens": sum(lengths),
            "prompt_tokens_details": {"cached_tokens": cached},
        }
        return ChatResult(
            generations=[ChatGeneration(message=AIMessage(text)) for text in texts],
            llm_output={"token_usage": usage},
        )

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        return llm_outputs[0] or {}


class InstantReward:
    """A reward that takes no time: the twelve digits a reply begins with."""

    name = "instant"

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        return [float(int(r.removeprefix("<improved_answer>")[:12], 16)) for r in responses]


class RisingReward(InstantReward):
    """The same, but later responses are better: what TPO is for."""

    name = "rising"

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        key = conversation[-1]["content"]
        self._seen[key] = self._seen.get(key, -1) + 1
        return [
            score + 2**47 * self._seen[key]
            for score in await super().score(conversation, responses)
        ]
