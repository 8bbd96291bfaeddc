"""Migrations: every way between blank and head, beside other people's tables, and all at once."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from tests.databases import make_candidates, make_run
from tpo_graph.errors import DatabaseVersionError
from tpo_graph.rows import make_rows
from tpo_graph.store import open_store
from tpo_graph.store.batch_rows import hold_batch
from tpo_graph.store.batches import read_batch
from tpo_graph.store.intake import put_rows
from tpo_graph.store.migrate import (
    alembic_config,
    current_revision,
    downgrade,
    head_revision,
    upgrade,
)
from tpo_graph.store.runs import find_run
from tpo_graph.store.tables import PREFIX, VERSION_TABLE, Base
from tpo_graph.store.urls import make_engine, parse_url

TABLES = {table.name for table in Base.metadata.sorted_tables}
REVISIONS = [
    script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()
][::-1]


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(parse_url(database_url))
    yield engine
    engine.dispose()


def our_tables(engine: Engine) -> set[str]:
    return {name for name in inspect(engine).get_table_names() if name.startswith(PREFIX)}


def revision(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return current_revision(connection)


def test_blank_to_head_and_down_to_blank(engine: Engine) -> None:
    assert revision(engine) is None
    upgrade(engine)
    assert our_tables(engine) == {*TABLES, VERSION_TABLE}
    assert revision(engine) == head_revision() == REVISIONS[-1]
    downgrade(engine, "base")
    assert our_tables(engine) == {VERSION_TABLE}
    assert revision(engine) is None


def test_opening_a_current_database_writes_nothing(engine: Engine, monkeypatch) -> None:
    upgrade(engine)
    monkeypatch.setattr(command, "upgrade", lambda *_: pytest.fail("migrated again"))
    upgrade(engine)


async def test_rows_survive_every_step_up(database_url: str) -> None:
    """Rows written at head are there after going down one revision and up again, each in turn."""
    engine = make_engine(parse_url(database_url))
    for older in REVISIONS[:-1]:
        async with open_store(database_url) as store:
            await store.cache.begin(make_run(older))
            await store.cache.record(older, 0, "reward_score", candidates=make_candidates())
        downgrade(engine, older)
        upgrade(engine)
        async with open_store(database_url) as store:
            assert await store.cache.candidates(older) == make_candidates()
    engine.dispose()


async def test_batches_come_and_go_and_their_runs_stay(database_url: str) -> None:
    """Revision 0002 with rows in it: down to 0001 drops them alone, and up again makes room."""
    engine = make_engine(parse_url(database_url))
    for _ in range(2):
        async with open_store(database_url) as store:
            if await find_run(store, "run-1") is None:
                await store.cache.begin(make_run())
            async with hold_batch(store, "b", {}, {"names": {}}) as before:
                assert before is None
                await put_rows(store, "b", 0, [*make_rows(["a", 7])])
            assert [item.status async for item in read_batch(store, "b")] == ["waiting", "failed"]
            assert await find_run(store, "run-1") is not None
        downgrade(engine, "0001")
        assert "tpo_batches" not in our_tables(engine)
        assert "tpo_runs" in our_tables(engine)
    engine.dispose()


def test_the_models_and_the_migrations_agree(engine: Engine) -> None:
    upgrade(engine)
    with engine.connect() as connection:
        command.check(alembic_config(connection))


async def test_langgraphs_tables_are_left_alone(database_url: str) -> None:
    engine = make_engine(parse_url(database_url))
    async with open_store(database_url):
        theirs = set(inspect(engine).get_table_names()) - our_tables(engine)
        assert "checkpoints" in theirs
        with engine.connect() as connection:
            command.check(alembic_config(connection))  # proposes to drop nothing
    downgrade(engine, "base")
    assert theirs <= set(inspect(engine).get_table_names())
    engine.dispose()


async def test_a_newer_database_is_refused(database_url: str) -> None:
    engine = make_engine(parse_url(database_url))
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(DatabaseVersionError, match=r"'9999'.*newer version.*Open it with"):
        async with open_store(database_url):
            pass


_OPEN = """
import asyncio, sys
from tpo_graph.store import open_store
async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    async with open_store(sys.argv[1]) as store:
        print(len(await store.cache.candidates("x")))
asyncio.run(main())
"""


def test_two_processes_open_a_blank_database_at_once(database_url: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN, database_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, "0\n"), err
