"""A reward step that does not end: what its requests have scored by then is not asked for again."""

import asyncio
from typing import Any

import pytest

from tests.openai_server import Behaviour
from tests.reward_server import RewardServer
from tests.tiny_models import classifier
from tpo_graph import aoptimize, aresume
from tpo_graph.conversation import Turn
from tpo_graph.errors import RewardError
from tpo_graph.rewards import FunctionReward, Score, score_each
from tpo_graph.rewards.vllm import VLLMRewardModel
from tpo_graph.store import open_store
from tpo_graph.testing import ScriptedChatModel

TEXTS = ["short", "longer", "the longest"]


class Scorer:
    """Scores each text at once, but for the last one: that fails, or never ends."""

    def __init__(self, how: str) -> None:
        self.how = how
        self.asked: list[str] = []
        self.scored = asyncio.Event()

    async def __call__(self, query: str, response: str) -> float:
        self.asked.append(response)
        if response == TEXTS[-1] and self.how:
            self.scored.set()
            if self.how == "fails":
                raise ConnectionError("the scorer is gone")
            await asyncio.Event().wait()
        return Score(float(len(response)), f"because of {response!r}")


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_scores_that_were_made_are_kept_when_the_step_does_not_end(
    database_url: str, how: str
) -> None:
    scorer = Scorer(how)
    options: dict[str, Any] = {
        "model": ScriptedChatModel(replies=list(TEXTS)),
        "reward_model": FunctionReward(scorer, name="scorer-1"),
    }
    async with open_store(database_url) as store:
        run = aoptimize("Why?", depth=0, width=3, database=store, run_id="r", **options)
        task = asyncio.create_task(run)
        async with asyncio.timeout(30):
            await scorer.scored.wait()
            if how == "is cancelled":
                task.cancel()
            with pytest.raises((RewardError, asyncio.CancelledError)):
                await task
    scorer.how, scorer.asked = "", []
    async with open_store(database_url) as store:
        result = await aresume("r", database=store, **options)
    assert scorer.asked == [TEXTS[-1]]
    assert [c["reward"] for c in result.candidates] == [len(text) for text in TEXTS]
    assert [c.get("reason") for c in result.candidates] == [f"because of {t!r}" for t in TEXTS]


def stops_at_the_last(query: str, response: str) -> float:
    if response == TEXTS[-1]:
        raise ConnectionError("the scorer is gone")
    return float(len(response))


@pytest.mark.parametrize("kind", ["sync function", "vllm"])
async def test_requests_that_ended_before_an_error_are_told(kind: str) -> None:
    kept: dict[str, Score] = {}
    question = [Turn(role="user", content="Why?")]
    with RewardServer("vllm", classifier()) as server:
        server.script.extend([Behaviour(), Behaviour(), Behaviour(status=401)])
        vllm = VLLMRewardModel(server.url, "rm", max_concurrency=1)
        model = vllm if kind == "vllm" else FunctionReward(stops_at_the_last)
        with pytest.raises(RewardError):
            await score_each(model, question, TEXTS, kept)
        assert list(kept) == TEXTS[:2]
        if kind == "vllm":
            scores = await score_each(model, question, TEXTS, kept)
            assert len(server.calls) == 4  # three, and the one that failed again
            assert scores[:2] == [kept[text] for text in TEXTS[:2]]
