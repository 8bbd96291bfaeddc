"""A policy that honours seeds, so that two methods really begin alike, and benches on it."""

from collections.abc import Sequence
from random import Random
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from tpo_graph.evaluation.bench import open_bench
from tpo_graph.rows import make_rows
from tpo_graph.testing import ScriptedChatModel, draft_then_improve, prefer_longer

QUERIES = ["Why?", "How {so}?", "When <1>?"]


class SeededModel(ScriptedChatModel):
    """Replies that depend on the messages and the seed alone; sample i is the same for any n."""

    broken: str | None = None
    """The query that it fails on."""
    silent: str | None = None
    """What a prompt says that it answers with nothing."""

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        seed, n = kwargs.get("seed", self.seed), kwargs.get("n", self.n)
        self._calls.append((messages, {"seed": seed, "n": n}))
        prompt = "\n".join(message.text for message in messages)
        if self.broken is not None and self.broken in prompt:
            raise RuntimeError("no answer to this one")
        if self.silent is not None and self.silent in messages[-1].text:
            return ChatResult(generations=[ChatGeneration(message=AIMessage("")) for _ in range(n)])
        random = Random(None if seed is None else f"{seed} {prompt}")
        texts = [draft_then_improve(messages, 10 ** random.randrange(6)) for _ in range(n)]
        usage = {"prompt_tokens": len(prompt), "completion_tokens": sum(map(len, texts))}
        return ChatResult(
            generations=[ChatGeneration(message=AIMessage(text)) for text in texts],
            llm_output={"token_usage": {**usage, "total_tokens": sum(usage.values())}},
        )


def bench(database: str, rows: Sequence[Any] = QUERIES, **options: Any):
    """An `open_bench` on these prompts; three prompts, two seeds, D1-N3 unless told otherwise."""
    given = {
        "name": "trial",
        "database": database,
        "model": SeededModel(),
        "reward_model": prefer_longer,
        "seeds": (0, 1),
        "width": 3,
        "depth": 1,
        **options,
    }
    return open_bench(make_rows(rows), **given)
