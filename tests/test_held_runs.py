"""A run belongs to one at a time: another waits, is refused, or takes it from the dead."""

import asyncio
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import empty_checkpoint
from sqlalchemy import update

from tests.databases import make_run
from tests.test_resuming import OPTIONS, fixed, model
from tpo_graph import aoptimize, aresume, optimize
from tpo_graph.errors import (
    RunBusyError,
    RunExistsError,
    StoreError,
)
from tpo_graph.store import Store, leases, open_store
from tpo_graph.store.pruning import prune
from tpo_graph.store.tables import RunRow, now
from tpo_graph.testing import prefer_longer


async def test_a_live_run_is_refused_to_others(sqlite_url: str) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(messages: Sequence[BaseMessage], index: int) -> str:
        begun.set()
        go_on.wait(10)
        return fixed(messages, index)

    async with open_store(sqlite_url) as ours, open_store(sqlite_url) as theirs:
        running = asyncio.create_task(
            asyncio.to_thread(
                optimize, "Why?", model=model(slow), database=sqlite_url, run_id="r", **OPTIONS
            )
        )
        await asyncio.to_thread(begun.wait, 10)
        for store in (ours, theirs):
            with pytest.raises(
                RunBusyError, match=r"'r' is being worked on by process \d+ on '[^' ]+'"
            ):
                await aresume("r", database=store, model=model(), reward_model=prefer_longer)
        go_on.set()
        result = await running
        assert (
            await aresume("r", database=ours, model=model(), reward_model=prefer_longer) == result
        )


async def claim(store: Store, owner: str, age: float) -> None:
    seen = now() - timedelta(seconds=age)
    claimed = update(RunRow).values(
        lease_owner=owner, lease_seen_at=seen, status="running", stop_reason=None
    )
    await store.writer.run(lambda connection: connection.execute(claimed))


async def test_a_dead_owner_is_followed_at_once_and_a_silent_one_later(store: Store) -> None:
    await aoptimize("Why?", model=model(), database=store, run_id="r", **OPTIONS)
    here = store.leases.owner.split("|")[0]
    dead, far = f"{here}|4194303|12345|x", "another host|1|12345|x"
    take = store.leases.hold("r")
    await claim(store, far, leases.STALE_SECONDS - 5)
    with pytest.raises(RunBusyError, match="another host"):
        async with take:
            pass
    for owner, age in ((dead, 0.0), (far, leases.STALE_SECONDS + 1)):
        await claim(store, owner, age)
        async with store.leases.hold("r"):
            pass


async def test_prune_takes_a_killed_process_s_run_with_both_its_threads(store: Store) -> None:
    saver, place = store.checkpointer, {"configurable": {"thread_id": "r", "checkpoint_ns": ""}}
    await aoptimize("Why?", model=model(), database=store, run_id="r", **OPTIONS)
    await saver.aput(place, empty_checkpoint(), {}, {})  # as a kill may leave it
    assert len([found async for found in saver.alist(None)]) == 2
    for age, pruned in ((leases.STALE_SECONDS - 5, 0), (leases.STALE_SECONDS + 1, 1)):
        await claim(store, "another host|1|12345|x", age)
        assert await prune(store, now() + timedelta(seconds=1)) == pruned
    assert not [found async for found in saver.alist(None)]


async def test_a_run_that_was_taken_over_stops(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.05)
    await aoptimize("Why?", model=model(), database=store, run_id="r", **OPTIONS)
    await asyncio.sleep(0)
    async with leases.Leases(store.writer) as held:

        async def work() -> None:
            async with held.hold("r"):
                await claim(store, "another host|1|12345|x", 0)
                await asyncio.sleep(10)

        with pytest.raises(RunBusyError, match="taken over"):
            await work()
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_a_heartbeat_disturbs_nobody_who_is_refused_a_lease(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It once cancelled those that noted, under load, that the run was another's."""
    monkeypatch.setattr(leases, "HEARTBEAT_SECONDS", 0.02)
    await store.cache.begin(make_run())
    await claim(store, "another host|1|12345|x", 0)
    run = store.writer.run

    async def slowly(work: Any) -> Any:
        await asyncio.sleep(0.05)
        return await run(work)

    async with leases.Leases(store.writer) as held:
        monkeypatch.setattr(store.writer, "run", slowly)
        with pytest.raises(RunExistsError):
            async with held.hold("run-1", new=make_run()):
                pass


async def test_a_second_run_of_one_id_is_refused(store: Store) -> None:
    first = await aoptimize("Why?", model=model(), database=store, run_id="r", **OPTIONS)
    idle = model()
    with pytest.raises(StoreError, match="'r' is stored already"):
        await aoptimize("Other?", model=idle, database=store, run_id="r", **OPTIONS)
    assert idle.calls == []
    assert await aresume("r", database=store) == first


async def test_a_run_killed_before_its_first_checkpoint_begins(store: Store) -> None:
    expected = await aoptimize("Why?", model=model(), **OPTIONS)
    await aoptimize("Why?", model=model(), database=store, run_id="r", **OPTIONS)
    await store.checkpointer.adelete_thread("r")
    await claim(store, "another host|1|12345|x", leases.STALE_SECONDS + 1)
    result = await aresume("r", database=store, model=model(), reward_model=prefer_longer)
    assert result.candidates == expected.candidates
