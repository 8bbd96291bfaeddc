"""One contract for every cache: in memory, in SQLite, in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from tests.databases import make_candidates, make_run
from tpo_graph.cache import Cache, MemoryCache, Scores, Step
from tpo_graph.errors import StoreError
from tpo_graph.store import Store, open_store
from tpo_graph.store.tables import CandidateRow, RewardRow, RunRow, StepRow, UnusableRow, UsageRow
from tpo_graph.usage import no_usage

SCORES = Scores(reward_model="local:reward", conversation="c" * 64)


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    async with open_store(database_url) as store:
        yield store


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    if request.param == "memory":
        yield MemoryCache()
        return
    async with open_store(request.getfixturevalue(f"{request.param}_url")) as store:
        yield store.cache


def count(store: Store, model: type) -> int:
    with store.engine.connect() as connection:
        return connection.scalar(select(func.count()).select_from(model)) or 0


async def test_what_nodes_record_is_read_back_in_order(cache: Cache) -> None:
    first, second = make_candidates(0), make_candidates(1)
    await cache.begin(make_run())
    await cache.record("run-1", 1, "reward_score", candidates=second)
    await cache.record("run-1", 0, "reward_score", candidates=first)
    assert await cache.candidates("run-1") == [*first, *second]
    assert await cache.candidates("another") == []


async def test_a_step_is_filled_in_part_by_part(cache: Cache) -> None:
    candidates = make_candidates()
    await cache.begin(make_run())
    await cache.record("run-1", 0, "reward_score", candidates=candidates)
    chosen = Step(iteration=0, chosen=candidates[1], rejected=candidates[0])
    await cache.record("run-1", 0, "select", step=chosen)
    await cache.record("run-1", 0, "loss", step=Step(iteration=0, loss="a loss"))
    await cache.record("run-1", 0, "gradient", step=Step(iteration=0, gradient="a gradient"))
    assert await cache.steps("run-1") == [{**chosen, "loss": "a loss", "gradient": "a gradient"}]
    await cache.record("run-1", 0, "loss", step=Step(iteration=0, loss="another"))
    assert (await cache.steps("run-1"))[0]["loss"] == "another"


async def test_known_rewards_ask_for_model_conversation_and_response(cache: Cache) -> None:
    candidates = make_candidates()
    texts = [candidate["response"] for candidate in candidates]
    await cache.begin(make_run())
    await cache.record("run-1", 0, "reward_score", candidates=candidates, scores=SCORES)
    assert await cache.known_rewards(SCORES, [texts[1], "unknown", texts[0]]) == [0.1, None, 0.0]
    assert await cache.known_rewards(SCORES, []) == []  # an update without a usable reply
    for other in ({"reward_model": "another"}, {"conversation": "d" * 64}):
        assert await cache.known_rewards({**SCORES, **other}, texts) == [None, None]


async def test_rewards_without_scores_stay_out_of_the_score_cache(cache: Cache) -> None:
    await cache.begin(make_run())
    await cache.record("run-1", 0, "reward_score", candidates=make_candidates())
    assert await cache.known_rewards(SCORES, [make_candidates()[0]["response"]]) == [None]


async def test_a_node_that_runs_twice_leaves_one_set_of_rows(store: Store) -> None:
    for reward in (1.0, 2.0):
        candidates = [{**candidate, "reward": reward} for candidate in make_candidates()]
        await store.cache.begin(make_run())
        usage = {**no_usage(), "requests": int(reward)}
        await store.cache.record(
            "run-1",
            0,
            "reward_score",
            usage=usage,
            candidates=candidates,
            scores=SCORES,
            step=Step(iteration=0, chosen=candidates[0]),
            unusable=[("", "empty")] * (3 - int(reward)),
        )
    assert count(store, UnusableRow) == 1
    assert [count(store, m) for m in (RunRow, CandidateRow, StepRow, RewardRow, UsageRow)] == [
        *(1, 2, 1, 2, 1)
    ]
    with store.engine.connect() as connection:
        assert connection.scalars(select(CandidateRow.reward)).all() == [2.0, 2.0]
        assert connection.scalar(select(UsageRow.requests)) == 2


async def test_a_stop_reason_finishes_the_run(store: Store) -> None:
    await store.cache.begin(make_run())
    with store.engine.connect() as connection:
        begun = connection.execute(select(RunRow.status, RunRow.created_at)).one()
    assert begun.status == "running"
    await store.cache.record("run-1", 0, "select", stop_reason="depth")
    await store.cache.begin(make_run("run-2"))
    with store.engine.connect() as connection:
        row = connection.execute(select(RunRow).where(RunRow.run_id == "run-1")).one()
    assert (row.status, row.stop_reason) == ("finished", "depth")
    assert row.created_at == begun.created_at


async def test_a_run_that_was_never_begun_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="Call `begin` first"):
        await store.cache.record("nobody", 0, "sample", usage=no_usage())
    await store.cache.begin(make_run())
    await store.cache.record("run-1", 0, "sample", usage=no_usage())


async def test_many_writers_at_once(store: Store) -> None:
    async def one(run_id: str) -> None:
        await store.cache.begin(make_run(run_id))
        for iteration in range(3):
            candidates = make_candidates(iteration, 3, run_id)
            await store.cache.record(
                run_id, iteration, "reward_score", candidates=candidates, scores=SCORES
            )
        assert len(await store.cache.candidates(run_id)) == 9

    await asyncio.gather(*[one(f"run-{i}") for i in range(40)])
    assert count(store, CandidateRow) == 40 * 9


async def test_a_cache_serves_several_event_loops(store: Store) -> None:
    await store.cache.begin(make_run())
    record = store.cache.record("run-1", 0, "reward_score", candidates=make_candidates())
    await asyncio.to_thread(asyncio.run, record)
    assert await store.cache.candidates("run-1") == make_candidates()


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_text_is_kept(store: Store, text: str) -> None:
    candidate = {**make_candidates()[0], "response": text}
    conversation = [{"role": "user", "content": text}]
    await store.cache.begin(make_run(conversation=conversation))
    await store.cache.record(
        "run-1", 0, "reward_score", candidates=[candidate], scores=SCORES, step={"loss": text}
    )
    assert await store.cache.candidates("run-1") == [candidate]
    assert (await store.cache.steps("run-1"))[0]["loss"] == text
    assert await store.cache.known_rewards(SCORES, [text]) == [candidate["reward"]]
    with store.engine.connect() as connection:
        assert connection.scalar(select(RunRow.conversation)) == conversation


async def test_replies_keep_how_they_ended_and_what_was_said_of_them(cache: Cache) -> None:
    """Also those that no candidate came of: paid for is paid for."""
    cut, plain = make_candidates()
    cut["finish_reason"], cut["reason"] = "length", "test_add failed"
    await cache.begin(make_run())
    await cache.record("run-1", 0, "sample", unusable=[("", "empty"), ("<think>", "cut")])
    await cache.record("run-1", 0, "reward_score", candidates=[cut, plain], scores=SCORES)
    assert await cache.candidates("run-1") == [cut, plain]
    assert [
        (u["stage"], u["position"], u["text"], u["why"]) for u in await cache.unusable("run-1")
    ] == [
        ("sample", 0, "", "empty"),
        ("sample", 1, "<think>", "cut"),
    ]
    assert await cache.unusable("another") == []
