"""A database URL: which back ends there are, their engines, and a form of it safe to show."""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from tpo_graph.errors import ConfigurationError
from tpo_graph.extras import extra
from tpo_graph.redaction import AMBIGUOUS, is_ambiguous, redacted

_POSTGRES = ("postgresql+psycopg", "postgresql", "postgres")
_FILE = re.compile(r"[\w./-]+\.(db|sqlite3?)")
"""What is surely no secret, and wants to be a file of SQLite's."""
ELSEWHERE = "Give the database that runs were stored in with --database URL or --config FILE."
BUSY_SECONDS = 30.0
"""How long a SQLite connection waits for another process to finish its write."""
POSTGRES_LOCK = 0x74706F5F67726170
"""Key of the advisory lock held while tables are made ("tpo_grap": the key is a number)."""


def parse_url(url: str) -> URL:
    """The URL with its driver made explicit.

    Args:
        url: `sqlite:///FILE` or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`.

    Raises:
        ConfigurationError: another back end, no file, or not a URL at all.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        # No `from e`: SQLAlchemy quotes the whole text, which may hold a password.
        if isinstance(url, str) and _FILE.fullmatch(url):  # pyright: ignore[reportUnnecessaryIsInstance]
            fix = f"the database {url!r} is a file's name and not a URL. Write sqlite:///{url}."
            raise ConfigurationError(fix) from None
        raise ConfigurationError(
            "the database is not a URL. Write sqlite:///FILE (or sqlite:////ABSOLUTE/FILE) or "
            "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE."
        ) from None
    except ValueError:  # that is how it says that the port is no number
        raise ConfigurationError(
            f"the port in the database's URL {redacted(url)!r:.200} is not a number"
        ) from None
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        if not parsed.database or ":memory:" in parsed.database:
            raise ConfigurationError(
                f"the database {shown(parsed)!r} does not name a plain file, which checkpoints "
                "and runs could share. Write sqlite:///FILE, or leave the database out to keep "
                "nothing."
            )
        return parsed.set(drivername="sqlite+pysqlite")
    if is_ambiguous(url) or "@" in (parsed.host or ""):
        raise ConfigurationError(f"the database's URL {AMBIGUOUS}")
    if parsed.drivername in _POSTGRES:
        return parsed.set(drivername="postgresql+psycopg")
    raise ConfigurationError(
        f"the database back end {parsed.drivername!r} is not supported. "
        "Use sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE."
    )


def shown(url: URL) -> str:
    """The URL for messages and rows: without its password and without query options."""
    name = url.drivername
    if url.get_backend_name() == "sqlite":
        file = url.database or ""
        plain = unquote(file.removeprefix("file:")) if file.startswith("file:") else file
        name, url = "sqlite", url.set(database=plain)
    return url.set(drivername=name, query={}).render_as_string(hide_password=True)


def make_engine(url: URL, *, synchronous: str = "FULL") -> Engine:
    """An engine for `url`, with SQLite set up for many readers and one short writer.

    Args:
        synchronous: SQLite's pragma of that name; see docs/persistence.md for what each promises.
    """
    if url.get_backend_name() == "sqlite":
        engine = create_engine(openable(url), connect_args={"timeout": BUSY_SECONDS})

        @event.listens_for(engine, "connect")
        def on_connect(connection: Any, _: Any) -> None:
            for pragma in sqlite_pragmas(synchronous):
                connection.execute(pragma)

        return engine
    with extra("postgres", f"the database {shown(url)!r}"):
        return create_engine(url, pool_pre_ping=True)


def make_reading_engine(url: URL) -> Engine:
    """An engine whose connections can write nothing, and make no file.

    Raises:
        ConfigurationError: there is no such file.
    """
    if url.get_backend_name() != "sqlite":
        with extra("postgres", f"the database {shown(url)!r}"):
            options = {"options": "-c default_transaction_read_only=on"}
            return create_engine(url, pool_pre_ping=True, connect_args=options)
    file = Path(url.database or "")
    if not file.is_file():
        raise ConfigurationError(f"there is no database file {str(file)!r}. {ELSEWHERE}")
    read_only = openable(url)
    if read_only is url:
        read_only = _read_only(url)
    return create_engine(read_only, connect_args={"timeout": BUSY_SECONDS})


def openable(url: URL) -> URL:
    """The URL by which SQLite opens the database; any other back end's as it is.

    In a folder that nothing can be written to, SQLite refuses even to read, since it wants to make
    files beside the database, unless it is told that nobody changes the database.
    """
    file = Path(url.database or "")
    if url.get_backend_name() != "sqlite" or not file.is_file():
        return url
    if os.access(file.parent, os.W_OK) or Path(f"{file}-wal").exists():
        return url
    return _read_only(url, immutable="1")


def _read_only(url: URL, **mode: str) -> URL:
    address = f"file:{quote(str(Path(url.database or '').absolute()))}"
    return url.set(database=address, query={"mode": "ro", "uri": "true", **mode})


def sqlite_pragmas(synchronous: str) -> tuple[str, ...]:
    """What every connection to a SQLite file is told first."""
    return (
        "PRAGMA foreign_keys=ON",
        f"PRAGMA synchronous={synchronous}",
        # 16 MB of log before it is copied into the file: most pages change again and again.
        "PRAGMA wal_autocheckpoint=4000",
    )
