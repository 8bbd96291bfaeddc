"""optimize_many: results in order, errors in place, one store; and batch on the graph itself."""

import asyncio
from contextlib import aclosing

import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from benchmarks.engine import Latency
from benchmarks.throughput import batch
from benchmarks.virtual_time import run_in_virtual_time
from tests.openai_server import Behaviour, Call, OpenAIServer
from tpo_graph import (
    TPOResult,
    aoptimize_many,
    create_tpo_graph,
    make_rows,
    optimize_many,
    run_batch,
)
from tpo_graph.errors import ConfigurationError, PolicyError, RewardError
from tpo_graph.store import open_store
from tpo_graph.store.runs import get_run
from tpo_graph.testing import ScriptedChatModel, prefer_longer


def improving(messages, index):
    """Replies that name the query they answer."""
    text = " ".join(message.text for message in messages)
    name = next(word for word in text.split() if word.startswith("query-"))
    return f"<improved_answer>{name} better</improved_answer>" if "<" in text else f"{name} draft"


def names(count: int) -> list[str]:
    return [f"query-{n}" for n in range(count)]


def model(**options) -> ScriptedChatModel:
    return ScriptedChatModel(replies=improving, **options)


@pytest.mark.parametrize("max_in_flight", [None, 1, 7])
def test_results_come_in_the_order_of_the_queries(max_in_flight):
    results = optimize_many(
        names(20), model=model(), reward_model=prefer_longer, max_in_flight=max_in_flight, width=2
    )
    assert [r.response for r in results if isinstance(r, TPOResult)] == [
        f"{name} better" for name in names(20)
    ]
    assert all(len(r.candidates) == 6 and len(r.steps) == 3 for r in results)
    assert len({r.run_id for r in results}) == 20


def test_a_failed_query_has_its_error_in_its_place():
    def fussy(query: str, response: str) -> float:
        if query == "query-3":
            raise ValueError("not this one")
        return float(len(response))

    results = optimize_many(names(8), model=model(), reward_model=fussy, width=2, depth=1)
    assert isinstance(results[3], RewardError)
    assert "not this one" in str(results[3])
    assert sum(isinstance(result, TPOResult) for result in results) == 7


@pytest.mark.parametrize("wanted", [True, None])
def test_a_bar_counts_what_has_ended_where_it_is_wanted(wanted, tmp_path, capsys):
    run = {"model": model(), "reward_model": prefer_longer, "width": 2, "progress": wanted}
    optimize_many(names(4), **run)
    rows = make_rows([{"prompt": name} for name in names(3)])
    run_batch(rows, name="b", database=f"sqlite:///{tmp_path / 'tpo.db'}", **run)
    shown = capsys.readouterr().err
    # Standard error is no terminal here: by default nothing is shown.
    assert ("4/4" in shown, "3/3" in shown, "gain" in shown) == (bool(wanted),) * 3


def test_nothing_is_run_when_a_setting_is_wrong():
    policy = model()
    with pytest.raises(ConfigurationError, match="max_in_flight=0"):
        optimize_many(names(2), model=policy, reward_model=prefer_longer, max_in_flight=0)
    with pytest.raises(ConfigurationError, match="depht"):
        optimize_many(names(2), model=policy, reward_model=prefer_longer, depht=2)
    assert policy.calls == []
    assert optimize_many([], model=policy, reward_model=prefer_longer) == []


@pytest.mark.parametrize("one", ["Hi.", {"role": "user", "content": "Hi."}, HumanMessage("Hi."), 3])
def test_one_query_is_no_list_of_queries(one):
    with pytest.raises(ConfigurationError, match="are not a list"):
        optimize_many(one, model=model(), reward_model=prefer_longer)


async def test_queries_are_taken_as_they_are_needed_and_results_stream():
    taken: list[str] = []

    def endless():
        while True:
            taken.append(f"query-{len(taken)}")
            yield taken[-1]

    results = aoptimize_many(
        endless(), model=model(), reward_model=prefer_longer, max_in_flight=2, width=1, depth=0
    )
    async with aclosing(results):
        seen = [await anext(results) for _ in range(5)]
    assert [r.response for r in seen] == [f"{name} draft" for name in names(5)]
    assert len(taken) < 60


async def test_started_runs_are_finished_before_more_are_begun():
    begun: list[str] = []
    ended: list[str] = []
    open_at_most = 0

    def on_event(event):
        nonlocal open_at_most
        if event["event"] == "samples" and event["iteration"] == 0:
            begun.append(event["run_id"])
        elif event["event"] == "stopped":
            ended.append(event["run_id"])
        open_at_most = max(open_at_most, len(begun) - len(ended))

    results = aoptimize_many(
        names(12),
        model=model(),
        reward_model=prefer_longer,
        max_in_flight=3,
        on_event=on_event,
        width=2,
    )
    async for _ in results:
        pass
    assert open_at_most == 3
    # Nobody is overtaken by more than those in flight beside it.
    assert all(abs(begun.index(run_id) - place) <= 3 for place, run_id in enumerate(ended))


async def test_all_runs_are_kept_in_one_store(tmp_path):
    url = f"sqlite:///{tmp_path}/many.db"
    async with open_store(url) as store:
        results = [
            result
            async for result in aoptimize_many(
                names(6), model=model(), reward_model=prefer_longer, database=store, depth=1
            )
        ]
        for name, result in zip(names(6), results, strict=True):
            stored = await get_run(store, result.run_id)
            assert stored["conversation"][0]["content"] == name
            assert stored["stop_reason"] == "depth"


def test_one_refusal_by_the_server_stops_nobody_else():
    def rule(call: Call) -> Behaviour | None:
        if "query-4" in str(call.messages):
            return Behaviour(status=400, error={"message": "not that", "param": None, "code": None})
        return None

    def reply(messages, seed, index):
        return "<improved_answer>a better answer</improved_answer>"

    with OpenAIServer(reply, rule=rule) as server:
        policy = ChatOpenAI(model="m", base_url=server.url, api_key="none", max_retries=0)
        results = optimize_many(names(10), model=policy, reward_model=prefer_longer, depth=1)
    assert [n for n, result in enumerate(results) if isinstance(result, PolicyError)] == [4]
    assert sum(isinstance(result, TPOResult) for result in results) == 9
    # A refusal that names nothing is tried once more with n=1, which may be what it refuses.
    assert len(server.calls) == 9 * 4 + 2


def test_a_drained_batch_says_so_in_every_place_that_has_no_result():
    control = RunControl()

    def on_event(event):
        if event["event"] == "stopped":
            control.request_drain()

    results = optimize_many(
        names(6),
        model=model(),
        reward_model=prefer_longer,
        max_in_flight=1,
        on_event=on_event,
        control=control,
    )
    assert [type(result) for result in results] == [TPOResult] + 5 * [GraphDrained]


async def test_leaving_early_stops_the_others():
    running = 0

    class Slow(ScriptedChatModel):
        async def _agenerate(self, messages, *arguments, **options):
            nonlocal running
            running += 1
            try:
                first = any("query-0" in message.text for message in messages)
                await asyncio.sleep(0 if first else 60)
            finally:
                running -= 1
            return self._generate(messages)

    results = aoptimize_many(names(5), model=Slow(replies=improving), reward_model=prefer_longer)
    async with aclosing(results):
        assert isinstance(await anext(results), TPOResult)
        assert running > 0
    assert running == 0


def test_the_steps_of_runs_tell_how_many_may_be_in_flight():
    small = Latency(slots=16, step=0.02, per_sequence=0.0002, prefill=10_000)
    found = run_in_virtual_time(batch(small, 80, None, seed=0))
    all_at_once = run_in_virtual_time(batch(small, 80, 80, seed=0))
    assert found.bound < 1.15
    assert found.latency < all_at_once.latency / 2


async def test_batch_and_abatch_of_the_graph_itself():
    graph = create_tpo_graph(model(), prefer_longer)
    inputs = [{"messages": [HumanMessage(name)]} for name in names(4)]
    context = {"width": 2, "depth": 1}
    together = graph.batch(inputs, context=context), await graph.abatch(inputs, context=context)
    for outputs in together:
        assert [out["messages"][-1].text for out in outputs] == [f"{n} better" for n in names(4)]
