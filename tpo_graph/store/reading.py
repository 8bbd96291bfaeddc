"""`open_to_read`: a database that is there, for reading only."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Engine

from tpo_graph.store.failures import explained
from tpo_graph.store.migrate import check_current
from tpo_graph.store.patience import Patience
from tpo_graph.store.urls import make_reading_engine, parse_url, shown


class Readable(Protocol):
    """Where runs can be read: an open store, or a database that is open for reading only."""

    @property
    def url(self) -> str:
        """The database, without its password."""
        ...

    @property
    def engine(self) -> Engine:
        """For reading with SQLAlchemy."""
        ...

    @property
    def patience(self) -> Patience | None:
        """How long a server that restarts is waited for; None: it is not."""
        ...


@dataclass(frozen=True, slots=True)
class ReadOnly:
    """A database that nothing is written to."""

    url: str
    engine: Engine
    patience: Patience | None = None
    """Who watches asks again anyway."""


@contextmanager
def open_to_read(url: str) -> Generator[ReadOnly]:
    """Open a database that exists, for reading only: nothing is created, migrated or written.

    Raises:
        ConfigurationError: `url` is not a database URL, or there are no tables of ours.
        DatabaseVersionError: another version of tpo_graph made its tables.
        StoreError: it cannot be read.
    """
    parsed = parse_url(url)
    engine = make_reading_engine(parsed)
    try:
        with explained(parsed):
            check_current(engine, shown(parsed))
        yield ReadOnly(url=shown(parsed), engine=engine)
    finally:
        engine.dispose()
