"""Many openings of one database in one process: one writer, few connections, and it closes."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, text

from tpo_graph import aoptimize, optimize, resume
from tpo_graph.errors import StoreError
from tpo_graph.store import open_store
from tpo_graph.store.opening import shared_store
from tpo_graph.testing import ScriptedChatModel, prefer_longer

MANY = 24


def answer(url: str, number: int) -> str:
    """One run of its own, from a plain thread; every third on an event loop of its own."""
    models = {"model": ScriptedChatModel(), "reward_model": prefer_longer}
    options = {"database": url, "run_id": f"run-{number}", "depth": 0, "width": 2}
    if number % 3 == 0:
        asyncio.run(aoptimize(f"question {number}", **models, **options))
    else:
        optimize(f"question {number}", **models, **options)
    return resume(f"run-{number}", database=url, **models).run_id


def test_many_threads_of_one_process_share_a_database(database_url: str) -> None:
    most = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        engine = create_engine(database_url)
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        with engine.connect() as connection:
            while not done.wait(0.02):
                most = max(most, connection.scalar(text(query)) or 0)
                connection.rollback()
        engine.dispose()

    postgres = database_url.startswith("postgres")
    with ThreadPoolExecutor(MANY + 1) as threads:
        watching = threads.submit(watch) if postgres else None
        try:
            runs = list(threads.map(lambda n: answer(database_url, n), range(MANY), timeout=120))
        finally:
            done.set()
        if watching is not None:
            watching.result(10)
    assert runs == [f"run-{n}" for n in range(MANY)]
    assert most <= MANY  # two for each if every opening had its own


async def test_a_shared_store_is_closed_by_the_last_who_uses_it(database_url: str) -> None:
    async with shared_store(database_url) as first:
        async with shared_store(database_url, reuse_scores=False) as second:
            assert second.checkpointer is first.checkpointer
        await first.cache.remember({"conversation": "c", "reward_model": "r"}, {"a": 1.0})
        assert await second.cache.known_rewards(
            {"conversation": "c", "reward_model": "r"}, ["a"]
        ) == [None]
    with pytest.raises(StoreError, match="closed"):
        await first.cache.remember({"conversation": "c", "reward_model": "r"}, {"a": 1.0})
    async with shared_store(database_url) as again:
        (known,) = await again.cache.known_rewards(
            {"conversation": "c", "reward_model": "r"}, ["a"]
        )
    assert known is not None


async def test_a_store_that_cannot_be_opened_fails_for_all_who_wait(tmp_path) -> None:
    async def ask(url: str) -> None:
        async with shared_store(url):
            pass

    (tmp_path / "tpo.db").write_text("no database at all " * 99)
    url = f"sqlite:///{tmp_path / 'tpo.db'}"
    results = await asyncio.gather(*(ask(url) for _ in range(5)), return_exceptions=True)
    assert [type(result) for result in results] == [StoreError] * 5
    (tmp_path / "tpo.db").unlink()
    await ask(url)


async def test_two_open_stores_of_one_file_write_with_one_thread(sqlite_url: str) -> None:
    async with open_store(sqlite_url) as first, open_store(sqlite_url) as second:
        assert first.writer is second.writer
        assert first.leases.owner != second.leases.owner
