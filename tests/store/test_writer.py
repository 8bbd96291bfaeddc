"""The writer: one commit for many, and nobody suffers for a neighbour."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError

from tpo_graph.errors import StoreError
from tpo_graph.store import patience
from tpo_graph.store import writer as writer_module
from tpo_graph.store.urls import make_engine, parse_url
from tpo_graph.store.writer import Writer


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(parse_url(database_url))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE numbers (n INTEGER PRIMARY KEY)"))
    yield engine
    engine.dispose()


@pytest.fixture
def writer(engine: Engine) -> Iterator[Writer]:
    writer = Writer(engine)
    yield writer
    writer.close()


def insert(n: int):
    return lambda connection: connection.execute(text(f"INSERT INTO numbers VALUES ({n})"))


def numbers(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.scalars(text("SELECT n FROM numbers ORDER BY n")))


async def test_what_waits_together_is_committed_together(engine: Engine, writer: Writer) -> None:
    commits: list[int] = []
    event.listen(engine, "commit", lambda _: commits.append(1))
    gate = threading.Event()
    first = asyncio.ensure_future(writer.run(lambda _: gate.wait()))
    await asyncio.sleep(0.05)
    rest = [asyncio.ensure_future(writer.run(insert(n))) for n in range(50)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *rest)
    assert numbers(engine) == list(range(50))
    assert len(commits) <= 2  # the gate's, when it counts as one, and all the others'


async def test_a_result_is_committed_when_it_arrives(engine: Engine, writer: Writer) -> None:
    await writer.run(insert(1))
    assert numbers(engine) == [1]


async def test_one_failure_hurts_nobody_else(engine: Engine, writer: Writer) -> None:
    gate = threading.Event()
    first = asyncio.ensure_future(writer.run(lambda _: gate.wait()))
    await asyncio.sleep(0.05)
    works = [insert(1), lambda connection: connection.execute(text("SELEC")), insert(2)]
    tasks = [asyncio.ensure_future(writer.run(work)) for work in works]
    await asyncio.sleep(0)
    gate.set()
    results = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert numbers(engine) == [1, 2]
    assert [isinstance(result, StoreError) for result in results] == [False, False, True, False]


async def test_an_error_of_the_work_itself_comes_through(writer: Writer) -> None:
    def work(_: Connection) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await writer.run(work)


async def test_a_caller_that_went_away_does_not_stop_the_writer(
    engine: Engine, writer: Writer
) -> None:
    task = asyncio.ensure_future(writer.run(insert(1)))
    await asyncio.sleep(0)
    task.cancel()
    await writer.run(insert(2))
    assert 2 in numbers(engine)


async def test_a_lost_server_is_waited_for_and_that_is_said(
    postgres_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    monkeypatch.setattr(writer_module, "_SILENT_SECONDS", 0.0)
    engine = make_engine(parse_url(postgres_url))
    writer = Writer(engine)
    tries: list[int] = []

    def work(_: Connection) -> str:
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("x", {}, psycopg.errors.AdminShutdown("terminating"))
        return "done"

    assert await writer.run(work) == "done"
    assert len(tries) == 3
    waits, answers = caplog.messages
    assert "terminating" in waits
    assert waits.endswith("It is waited for, for 60 s in all.")
    assert answers.endswith("answers again")
    await asyncio.to_thread(writer.close)
    engine.dispose()


async def test_an_outage_is_one_for_all_who_write(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.2)
    engine = make_engine(parse_url(postgres_url))
    writer = Writer(engine)
    tries: dict[int, int] = {}

    def failing(n: int) -> Callable[[Connection], None]:
        def work(_: Connection) -> None:
            tries[n] = tries.get(n, 0) + 1
            raise OperationalError("x", {}, psycopg.errors.AdminShutdown("terminating"))

        return work

    for n in range(3):
        with pytest.raises(StoreError, match="terminating"):
            await writer.run(failing(n))
    assert tries[0] > 1
    assert (tries[1], tries[2]) == (1, 1)  # those who come later do not wait as long again
    await writer.run(lambda _: None)
    with pytest.raises(StoreError, match="terminating"):
        await writer.run(failing(3))  # a new outage
    assert tries[3] > 1
    await asyncio.to_thread(writer.close)
    engine.dispose()


async def test_a_closed_writer_says_so(sqlite_url: str) -> None:
    engine = make_engine(parse_url(sqlite_url))
    writer = Writer(engine)
    writer.close()
    writer.close()
    with pytest.raises(StoreError, match="closed"):
        await writer.run(lambda _: None)
    engine.dispose()
