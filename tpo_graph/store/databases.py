"""The open databases of this process: one engine and one writer for each, whoever opens it.

Many of them would compete for SQLite's only lock, which is given to no one in turn, and for the
connections that PostgreSQL allows.
"""

import os
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine

from tpo_graph.store.checkpoints import set_up_postgres
from tpo_graph.store.failures import explained
from tpo_graph.store.migrate import upgrade
from tpo_graph.store.urls import make_engine, parse_url
from tpo_graph.store.writer import Writer


@dataclass(eq=False)
class Database:
    """An engine, and the thread that writes with it. Usable from any thread and event loop."""

    engine: Engine
    writer: Writer
    users: int = 0
    _preparing: threading.Lock = field(default_factory=threading.Lock)
    _prepared: bool = False

    def prepare(self) -> None:
        """Migrate the database when it is blank or older. Blocks; looks once only."""
        with self._preparing:
            if not self._prepared:
                upgrade(self.engine)
                if self.engine.dialect.name == "postgresql":
                    set_up_postgres(self.engine)
                self._prepared = True


_open: dict[tuple[Any, ...], Database] = {}
_lock = threading.Lock()


def place(url: URL) -> tuple[Any, ...]:
    """What two URLs of one database have in common, in this process (a fork shares nothing)."""
    if url.get_backend_name() == "sqlite" and not (url.database or "").startswith("file:"):
        url = url.set(database=str(Path(url.database or "").resolve()))
    return os.getpid(), url


@contextmanager
def open_database(url: URL, synchronous: str) -> Generator[Database]:
    """The process's own for this URL, closed when nobody uses it any more (which blocks)."""
    key = (*place(url), synchronous)
    with _lock:
        database = _open.get(key)
        if database is None:
            engine = make_engine(url, synchronous=synchronous)
            database = _open[key] = Database(engine, Writer(engine))
        database.users += 1
    try:
        yield database
    finally:
        with _lock:
            database.users -= 1
            if not database.users:
                del _open[key]
        if not database.users:
            database.writer.close()
            database.engine.dispose()


def prepare_database(url: str) -> None:
    """Make all tables of a database, or migrate it to the newest revision. Blocks.

    Raises:
        ConfigurationError: `url` is not a database URL that tpo_graph supports.
        DatabaseVersionError: a newer tpo_graph has written it.
        StoreError: it cannot be opened, or its user may not make tables.
    """
    parsed = parse_url(url)
    with explained(parsed), open_database(parsed, "FULL") as database:
        database.prepare()
