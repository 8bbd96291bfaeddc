"""Bring a database to the schema of this version, with the migrations in `alembic/`.

Called whenever a store is opened: it looks, and writes only when something is missing.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, text

from tpo_graph.errors import ConfigurationError, DatabaseVersionError, StoreError
from tpo_graph.files.shipped import data_folder
from tpo_graph.store.failures import explained
from tpo_graph.store.tables import VERSION_TABLE
from tpo_graph.store.urls import ELSEWHERE, POSTGRES_LOCK, make_engine, parse_url, shown
from tpo_graph.store.writer import begin_write

_LOCK_SECONDS = 60.0


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration for our migrations, on `connection` when there is one."""
    config = Config()
    config.set_main_option("script_location", str(data_folder("alembic")))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def head_revision() -> str:
    """The revision that this version of tpo_graph works with."""
    head = ScriptDirectory.from_config(alembic_config()).get_current_head()
    assert head is not None
    return head


def current_revision(connection: Connection) -> str | None:
    """The revision a database is at; None for one without our tables."""
    options = {"version_table": VERSION_TABLE}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


def upgrade(engine: Engine) -> None:
    """Migrate to the newest revision. Several processes may do so at once.

    Raises:
        DatabaseVersionError: a newer tpo_graph has written this database.
    """
    with engine.connect() as connection:
        if _is_current(connection):
            return
    with engine.connect() as connection, alone(connection):
        if _is_current(connection):  # another process was faster
            return
        command.upgrade(alembic_config(connection), "head")
        connection.commit()


def downgrade(engine: Engine, revision: str) -> None:
    """Go back to an older revision ("base": no tables at all). Rows that it lacks are lost."""
    with engine.connect() as connection, alone(connection):
        command.downgrade(alembic_config(connection), revision)
        connection.commit()


def _is_current(connection: Connection) -> bool:
    revision = current_revision(connection)
    if revision == head_revision():
        return True
    if revision is not None:
        try:
            ScriptDirectory.from_config(alembic_config()).get_revision(revision)
        except CommandError as e:
            raise DatabaseVersionError(
                f"the database {shown(connection.engine.url)!r} is at revision {revision!r}, "
                f"which this tpo_graph (revision {head_revision()!r}) does not know: a newer "
                "version wrote it. Open it with that version of tpo_graph, or a newer one."
            ) from e
    return False


def check_current(engine: Engine, name: str) -> None:
    """Make sure that a database can be read as it is.

    Args:
        name: what to call it.

    Raises:
        ConfigurationError: it has no tables of ours.
        DatabaseVersionError: they are those of another version.
    """
    with engine.connect() as connection:
        if _is_current(connection):
            return
        revision = current_revision(connection)
    if revision is None:
        raise ConfigurationError(f"{name!r} holds no runs of tpo_graph. {ELSEWHERE}")
    raise DatabaseVersionError(
        f"the database {name!r} is at revision {revision!r}, which is older than this tpo_graph's "
        f"({head_revision()!r}). Migrate it with: tpo db upgrade"
    )


@contextmanager
def alone(connection: Connection) -> Generator[None]:
    """Keep other processes from migrating at the same time."""
    connection.rollback()
    if connection.dialect.name == "sqlite":
        begin_write(connection)
        yield
        return
    # Asked for again and again rather than waited for: a waiting statement holds a snapshot, and
    # LangGraph's `CREATE INDEX CONCURRENTLY` waits for every snapshot to go.
    lock = text("SELECT pg_try_advisory_lock(:key)").bindparams(key=POSTGRES_LOCK)
    deadline = time.monotonic() + _LOCK_SECONDS
    while not connection.scalar(lock):
        connection.rollback()
        if time.monotonic() > deadline:
            raise StoreError(
                f"another process has been migrating {shown(connection.engine.url)!r} for "
                f"{_LOCK_SECONDS:.0f} seconds. Wait for it, or end it, and retry."
            )
        time.sleep(0.05)
    connection.commit()
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)").bindparams(key=POSTGRES_LOCK))
        connection.commit()


def database_revision(url: str) -> str | None:
    """The revision of the database at `url`; None for one without our tables, or without a file."""
    parsed = parse_url(url)
    file = parsed.database if parsed.get_backend_name() == "sqlite" else None
    if file and not file.startswith("file:") and not Path(file).exists():
        return None  # connecting would make an empty one
    with _engine(url) as engine, engine.connect() as connection:
        return current_revision(connection)


def existing(url: str) -> str:
    """The URL of a database that holds our tables: reading must not make an empty one.

    Raises:
        ConfigurationError: there is none.
        StoreError: it cannot be read.
    """
    if database_revision(url) is None:
        raise ConfigurationError(
            f"there are no runs at {shown(parse_url(url))!r}: no tpo_graph database is there yet. "
            "Give the database that they were stored in (--database URL or --config FILE, or "
            "database= in Python)."
        )
    return url


@contextmanager
def _engine(url: str) -> Generator[Engine]:
    parsed = parse_url(url)
    engine = make_engine(parsed)
    try:
        with explained(parsed):
            yield engine
    finally:
        engine.dispose()
