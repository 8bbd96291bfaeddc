"""Runs in a database: kept, stopped, taken up again, taken deeper; and never by two at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from tpo_graph import aextend, aoptimize, aresume, extend, optimize, resume
from tpo_graph.conversation import Turn, conversation_key
from tpo_graph.errors import (
    ConfigurationError,
    PolicyError,
    RunNotFoundError,
    StoreError,
)
from tpo_graph.rewards import FunctionReward
from tpo_graph.store import Store, open_store
from tpo_graph.store.runs import get_run, list_runs
from tpo_graph.testing import ScriptedChatModel, draft_then_improve, prefer_longer


def model(script: Any = None) -> ScriptedChatModel:
    return ScriptedChatModel(replies=script or fixed)


def fixed(messages: Sequence[BaseMessage], _: int) -> str:
    return draft_then_improve(messages, len(messages[-1].text) % 89)


class FailingOnce:
    """A script that fails at one call, as a provider does."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.asked = 0

    def __call__(self, messages: Sequence[BaseMessage], index: int) -> str:
        self.asked += 1
        if self.asked == self.at:
            raise ConnectionError("the provider is gone")
        return fixed(messages, index)


OPTIONS = {"depth": 2, "width": 2, "seed": 7, "reward_model": prefer_longer}


async def test_a_run_is_kept_whole(store: Store) -> None:
    result = await aoptimize("Why?", model=model(), database=store, **OPTIONS)
    plain = await aoptimize("Why?", model=model(), **OPTIONS)
    assert result.candidates == plain.candidates
    assert result.steps == plain.steps
    run = await get_run(store, result.run_id)
    assert (run["status"], run["stop_reason"]) == ("finished", "depth")
    assert run["conversation"] == [{"role": "user", "content": "Why?"}]
    assert run["settings"]["depth"] == 2
    (listed,) = await list_runs(store)
    assert (listed["candidates"], listed["iterations"]) == (6, 3)
    assert listed["best_reward"] == result.reward


@pytest.mark.parametrize("at", range(1, 11))
async def test_a_failed_run_goes_on_where_it_stopped(store: Store, at: int) -> None:
    """Two samples, then per iteration a loss, a gradient and two updates: any of ten may fail."""
    whole = model()
    expected = await aoptimize("Why?", model=whole, **OPTIONS)
    script = FailingOnce(at)
    policy = model(script)
    if at <= 2:  # nothing is scored yet
        with pytest.raises(PolicyError):
            await aoptimize("Why?", model=policy, database=store, run_id="r", **OPTIONS)
    else:
        await aoptimize("Why?", model=policy, database=store, run_id="r", **OPTIONS)
    run = await get_run(store, "r")
    assert run["status"] == "failed"
    assert run["stop_reason"] == (None if at <= 2 else "failed")
    assert run["error"] is not None
    assert run["error"].startswith("PolicyError")

    result = await aresume("r", database=store, model=policy, reward_model=prefer_longer)
    assert (result.candidates, result.steps) == (expected.candidates, expected.steps)
    assert result.history == expected.history
    # One call of a node that was under way is made again, at most.
    assert len(policy.calls) <= len(whole.calls) + 1
    assert (await get_run(store, "r"))["status"] == "finished"


async def test_a_drained_run_says_interrupted_and_goes_on(store: Store) -> None:
    control = RunControl()
    with pytest.raises(GraphDrained):
        await aoptimize(
            "Why?",
            model=model(),
            database=store,
            run_id="r",
            control=control,
            on_event=lambda event: control.request_drain("stop"),
            **OPTIONS,
        )
    assert (await get_run(store, "r"))["status"] == "interrupted"
    result = await aresume("r", database=store, model=model(), reward_model=prefer_longer)
    expected = await aoptimize("Why?", model=model(), **OPTIONS)
    assert result.candidates == expected.candidates


async def test_a_run_that_is_stopped_between_score_and_select_keeps_its_scores(
    database_url: str,
) -> None:
    """Those two share a checkpoint, which a stop between them must not lose."""
    control, scored = RunControl(), list[str]()

    def reward(query: str, response: str) -> float:
        scored.append(response)
        control.request_drain("stop")
        return float(len(response))

    options = {**OPTIONS, "reward_model": reward}
    async with open_store(database_url, reuse_scores=False) as store:
        with pytest.raises(GraphDrained):
            await aoptimize(
                "Why?", model=model(), database=store, run_id="r", control=control, **options
            )
        found = await store.checkpointer.aget_tuple({"configurable": {"thread_id": "r"}})
        assert found is not None
        assert len(found.checkpoint["channel_values"]["rewards"]) == 2
        before = set(scored)
        scored.clear()
        result = await aresume("r", database=store, model=model(), reward_model=reward)
        assert scored
        assert not before & set(scored)
    expected = await aoptimize("Why?", model=model(), **OPTIONS)
    assert (result.candidates, result.steps) == (expected.candidates, expected.steps)


@pytest.mark.parametrize("start", [0, 1, 3])
async def test_extended_is_like_run_at_that_depth(store: Store, start: int) -> None:
    options = {**OPTIONS, "depth": start}
    deep = model()
    expected = await aoptimize("Why?", model=deep, **{**OPTIONS, "depth": 5})
    policy = model()
    await aoptimize("Why?", model=policy, database=store, run_id="r", **options)
    result = await aextend("r", depth=5, database=store, model=policy, reward_model=prefer_longer)
    assert (result.candidates, result.steps) == (expected.candidates, expected.steps)
    assert (result.response, result.history) == (expected.response, expected.history)
    assert len(policy.calls) == len(deep.calls)
    run = await get_run(store, "r")
    assert (run["status"], run["settings"]["depth"]) == ("finished", 5)


async def test_extend_that_fails_is_resumed_at_the_new_depth(store: Store) -> None:
    await aoptimize("Why?", model=model(), database=store, run_id="r", **OPTIONS)
    failed = await aextend(
        "r", depth=4, database=store, model=model(FailingOnce(1)), reward_model=prefer_longer
    )
    assert failed.stop_reason == "failed"
    result = await aresume("r", database=store, model=model(), reward_model=prefer_longer)
    expected = await aoptimize("Why?", model=model(), **{**OPTIONS, "depth": 4})
    assert (result.candidates, result.steps) == (expected.candidates, expected.steps)


async def test_extending_answers_once(store: Store) -> None:
    await aoptimize("Why?", model=model(), database=store, run_id="r", **OPTIONS)
    result = await aextend("r", depth=3, database=store, model=model(), reward_model=prefer_longer)
    thread = {"thread_id": (await get_run(store, "r"))["thread_id"]}
    found = await store.checkpointer.aget_tuple({"configurable": thread})
    assert found is not None
    messages = found.checkpoint["channel_values"]["messages"]
    assert [type(m) for m in messages] == [HumanMessage, AIMessage]
    assert messages[-1].text == result.response


async def test_a_finished_run_keeps_one_checkpoint(database_url: str) -> None:
    async with open_store(database_url) as store:
        for run_id in ("r", "other"):
            await aoptimize("Why?", model=model(), database=store, run_id=run_id, **OPTIONS)
        result = await aextend(
            "r", depth=3, database=store, model=model(), reward_model=prefer_longer
        )
        kept = [c.config["configurable"]["thread_id"] async for c in store.checkpointer.alist(None)]
        named = [(await get_run(store, run_id))["thread_id"] for run_id in ("r", "other")]
        assert sorted(kept) == sorted(named)
        expected = await aoptimize("Why?", model=model(), **{**OPTIONS, "depth": 3})
        assert (result.candidates, result.steps) == (expected.candidates, expected.steps)
        assert (await aresume("other", database=store)).response


async def test_extend_wants_more_depth(store: Store) -> None:
    await aoptimize("Why?", model=model(), database=store, run_id="r", **OPTIONS)
    with pytest.raises(ConfigurationError, match=r"depth=2 is not deeper.*at least 3"):
        await aextend("r", depth=2, database=store, model=model(), reward_model=prefer_longer)


async def test_another_reward_model_is_refused(store: Store) -> None:
    await aoptimize("Why?", model=model(), database=store, run_id="r", **OPTIONS)

    def shorter(query: str, response: str) -> float:
        return -len(response)

    with pytest.raises(ConfigurationError, match="cannot be compared"):
        await aextend("r", depth=3, database=store, model=model(), reward_model=shorter)


async def test_objects_must_be_given_again(store: Store) -> None:
    await aoptimize("Why?", model=model(), database=store, run_id="r", **OPTIONS)
    with pytest.raises(ConfigurationError, match=r"object as its model.*Give model="):
        await aextend("r", depth=3, database=store)
    with pytest.raises(RunNotFoundError, match=r"'nobody'.*tpo runs list"):
        await aresume("nobody", database=store, model=model(), reward_model=prefer_longer)


async def test_a_host_graphs_run_is_left_to_the_host(store: Store) -> None:
    from tpo_graph import create_tpo_graph

    graph = create_tpo_graph(model(), prefer_longer, cache=store.cache)
    await graph.ainvoke({"messages": [("user", "Why?")]}, context={"depth": 0, "width": 1})
    (run,) = await list_runs(store)
    with pytest.raises(StoreError, match="host"):
        await aresume(run["run_id"], database=store, model=model(), reward_model=prefer_longer)


def test_the_sync_side(sqlite_url: str, tmp_path: Path) -> None:
    result = optimize("Why?", model=model(), database=sqlite_url, run_id="r", **OPTIONS)
    options = {"database": sqlite_url, "model": model(), "reward_model": prefer_longer}
    assert resume("r", **options) == result
    assert extend("r", depth=3, **options).history[-1]["iteration"] == 3


async def test_a_run_resumes_with_its_own_score_reuse_and_audit(sqlite_url: str, tmp_path) -> None:
    auditor = tmp_path / "auditor.py"
    auditor.write_text("def shorter(query, response):\n    return -float(len(response))\n")
    scored: list[str] = []

    def reward(query: str, response: str) -> float:
        scored.append(response)
        return float(len(response))

    broken = [True]

    def reply(messages: Any, index: int) -> str:
        if "</improved_answer>" not in messages[-1].text:
            return draft_then_improve(messages, 7)
        if broken[0]:
            raise ConnectionError("gone")
        return f"<improved_answer>A better answer{'!' * len(scored)}</improved_answer>"

    handles: dict[str, Any] = {
        "model": ScriptedChatModel(replies=reply),
        "reward_model": FunctionReward(reward, name="length-1"),
    }
    begun = {"database": sqlite_url, "run_id": "r", "depth": 1, "width": 1}
    failed = await aoptimize(
        "Why?",
        **handles,
        **begun,
        reuse_scores=False,
        audit=f"python:{auditor}#shorter",
        audit_fallback=True,
    )
    assert failed.stop_reason == "failed"
    broken[0] = False
    async with open_store(sqlite_url) as store:  # all that there is to score is known by now
        texts = {"A better answer!": 1.0}
        key = conversation_key([Turn(role="user", content="Why?")])
        await store.cache.remember({"reward_model": "length-1", "conversation": key}, texts)
    result = await aresume("r", database=sqlite_url, **handles)
    assert scored == [c["response"] for c in result.candidates]  # never from the score cache
    assert result.audit is not None
    assert (result.audit.fell_back, result.iteration) == (True, 0)
    deeper = await aextend("r", depth=2, database=sqlite_url, **handles)
    assert deeper.audit is not None
    assert deeper.audit.fell_back
    other = await aresume("r", database=sqlite_url, **handles, audit=lambda q, r: 1.0)
    assert other.audit is not None
    assert not other.audit.fell_back


async def test_an_audit_that_cannot_be_resumed_is_missed_aloud(sqlite_url: str) -> None:
    handles: dict[str, Any] = {"model": ScriptedChatModel(), "reward_model": prefer_longer}
    options = {"database": sqlite_url, "depth": 0, "width": 2}
    begun = await aoptimize("Why?", **handles, **options, audit=lambda query, response: 1.0)
    assert begun.audit is not None
    result = await aresume(begun.run_id, database=sqlite_url, **handles)
    assert result.audit is None
    assert "Give audit=" in (result.audit_error or "")
