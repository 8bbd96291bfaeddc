"""What a person reads when the database fails, and that earlier rows survive it."""

import os
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, event, text

from tests.databases import make_candidates, make_run
from tpo_graph.cli import tpo
from tpo_graph.errors import ConfigurationError, StoreError
from tpo_graph.store import open_store
from tpo_graph.store import urls as urls_module
from tpo_graph.store.urls import parse_url, shown


async def fill(url: str) -> None:
    async with open_store(url) as store:
        await store.cache.begin(make_run())
        await store.cache.record("run-1", 0, "reward_score", candidates=make_candidates())


async def test_a_read_only_database_can_be_read(sqlite_url: str) -> None:
    await fill(sqlite_url)
    path = sqlite_url.removeprefix("sqlite:///")
    async with open_store(f"sqlite:///file:{path}?mode=ro&uri=true") as store:
        assert await store.cache.candidates("run-1") == make_candidates()
        with pytest.raises(StoreError, match="read-only") as caught:
            await store.cache.begin(make_run("run-2"))
        assert path in str(caught.value)
        assert caught.value.__cause__ is not None


async def test_a_database_in_a_folder_that_takes_no_file_can_be_read(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(sqlite_url)
    file = Path(sqlite_url.removeprefix("sqlite:///"))
    monkeypatch.setattr(os, "access", lambda _, mode: mode != os.W_OK)  # as root may
    async with open_store(sqlite_url) as store:
        assert await store.cache.candidates("run-1") == make_candidates()
        assert list(file.parent.iterdir()) == [file]
        with pytest.raises(StoreError, match=f"'{sqlite_url}' failed: it is read-only"):
            await store.cache.begin(make_run("run-2"))


async def test_a_full_disk_leaves_earlier_rows(sqlite_url: str) -> None:
    await fill(sqlite_url)
    engine = create_engine(sqlite_url)

    @event.listens_for(engine, "connect")
    def _(connection, _record) -> None:
        connection.execute("PRAGMA max_page_count = 1")  # SQLite rounds up to the present size

    async with open_store(engine=engine) as store:
        long = [{**make_candidates()[0], "iteration": 1, "response": "x" * 100_000}]
        with pytest.raises(StoreError, match=r"disk is full\. Free some space"):
            await store.cache.record("run-1", 1, "reward_score", candidates=long)
        assert await store.cache.candidates("run-1") == make_candidates()
    engine.dispose()


async def test_a_locked_database_says_so(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(sqlite_url)
    monkeypatch.setattr(urls_module, "BUSY_SECONDS", 0.1)
    blocker = create_engine(sqlite_url)
    async with open_store(sqlite_url) as store:
        with blocker.connect() as connection:
            connection.execute(text("BEGIN IMMEDIATE"))
            with pytest.raises(StoreError, match="another process kept it locked"):
                await store.cache.begin(make_run("run-2"))
            assert await store.cache.candidates("run-1") == make_candidates()
        await store.cache.begin(make_run("run-2"))
    blocker.dispose()


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="Check its folder") as caught:
        async with open_store(f"sqlite:///{tmp_path}/missing/tpo.db"):
            pass
    assert "missing/tpo.db" in str(caught.value)


async def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("not a database " * 100)
    with pytest.raises(StoreError, match="not a SQLite database"):
        async with open_store(f"sqlite:///{file}"):
            pass


async def test_no_server_and_no_password_shown() -> None:
    with pytest.raises(StoreError, match="no server answers there") as caught:
        async with open_store("postgresql+psycopg://me:hunter2@127.0.0.1:1/tpo"):
            pass
    assert "hunter2" not in str(caught.value)
    assert "me:***@127.0.0.1:1/tpo" in str(caught.value)


async def test_a_server_without_that_database(postgres_server: str) -> None:
    with pytest.raises(StoreError, match=r"'postgresql.*Create it, or check the URL"):
        async with open_store(postgres_server.replace("/postgres?", "/nobody_made_this?")):
            pass


async def test_a_user_who_may_not_create_tables(postgres_url: str) -> None:
    user = f"limited_{uuid4().hex[:12]}"
    url = postgres_url.replace("//postgres:", f"//{user}:")
    admin = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE USER {user}"))
        with pytest.raises(StoreError, match="no right to create tables there"):
            await fill(url)
        result = CliRunner().invoke(tpo, ["db", "upgrade", "--database", postgres_url])
        assert result.exit_code == 0, result.output
        with pytest.raises(StoreError, match="Grant SELECT, INSERT, UPDATE and DELETE on all"):
            await fill(url)
        rights = f"SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {user}"
        connection.execute(text(f"GRANT {rights}"))
        await fill(url)  # as LangGraph's setup, which asks for the right each time, would not
        connection.execute(text(f"DROP OWNED BY {user}"))
        connection.execute(text(f"DROP USER {user}"))
    admin.dispose()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://u:hunter2@h/d", "'mysql' is not supported"),
        ("tpo.db hunter2", "not a URL"),
        ("runs/tpo.db", r"'runs/tpo\.db' is a file's name.* Write sqlite:///runs/tpo\.db"),
        ("postgresql://u:hunter2@h:port/d", r"the port in .*'postgresql://\*\*\*@h:port/d'"),
        ("sqlite://", "plain file"),
        ("sqlite:///:memory:", "plain file"),
    ],
)
def test_a_wrong_url_is_refused_without_showing_secrets(url: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as caught:
        parse_url(url)
    assert "hunter2" not in str(caught.value)


def test_postgres_urls_get_their_driver() -> None:
    for scheme in ("postgresql", "postgres", "postgresql+psycopg"):
        url = parse_url(f"{scheme}://me:hunter2@host/tpo?sslmode=require")
        assert url.drivername == "postgresql+psycopg"
        assert shown(url) == "postgresql+psycopg://me:***@host/tpo"
