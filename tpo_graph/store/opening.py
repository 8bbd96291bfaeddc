"""`open_store`: from a database URL to a migrated database, a cache and a checkpointer."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

from langgraph.checkpoint.base import BaseCheckpointSaver
from sqlalchemy import Engine

from tpo_graph.store.cache import SqlCache
from tpo_graph.store.checkpoints import open_checkpointer
from tpo_graph.store.databases import Database, open_database, place
from tpo_graph.store.failures import explained
from tpo_graph.store.leases import Leases
from tpo_graph.store.patience import Patience
from tpo_graph.store.urls import parse_url, shown
from tpo_graph.store.writer import Writer

DEFAULT_URL = "sqlite:///tpo.db"

Synchronous = Literal["OFF", "NORMAL", "FULL", "EXTRA"]


@dataclass(frozen=True, slots=True)
class Store:
    """An open database. Give `cache` and `checkpointer` to `create_tpo_graph`."""

    url: str
    """The database, without its password."""
    cache: SqlCache
    """Usable from several event loops and threads."""
    checkpointer: BaseCheckpointSaver[str]
    """LangGraph's saver. It belongs to the event loop in which the store was opened."""
    leases: Leases
    """Who works on which run."""
    engine: Engine
    """For reading with SQLAlchemy."""
    writer: Writer
    """For writing: all rows of this process go through it."""

    @property
    def patience(self) -> Patience:
        """How long a server that restarts is waited for."""
        return self.writer.patience


@asynccontextmanager
async def open_store(
    url: str = DEFAULT_URL,
    *,
    engine: Engine | None = None,
    reuse_scores: bool = True,
    synchronous: Synchronous = "FULL",
) -> AsyncGenerator[Store]:
    """Open a database, migrating it first when it is blank or older.

    Args:
        url: `sqlite:///FILE` or `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`.
        engine: a parent application's engine to use instead; `url` is then read from it, and the
            engine is left open at the end.
        reuse_scores: whether rewards come from the score cache where it has them.
        synchronous: SQLite's pragma: what a commit survives (docs/persistence.md).

    Raises:
        ConfigurationError: `url` is not a database URL that tpo_graph supports.
        DatabaseVersionError: a newer tpo_graph has written the database.
        StoreError: it cannot be opened.
    """
    parsed = parse_url(url) if engine is None else engine.url
    async with AsyncExitStack() as stack:
        if engine is None:
            opened = open_database(parsed, synchronous)
            database = opened.__enter__()
            stack.push_async_callback(asyncio.to_thread, opened.__exit__, None, None, None)
        else:
            database = Database(engine, Writer(engine))
            stack.push_async_callback(asyncio.to_thread, database.writer.close)
        with explained(parsed):
            await asyncio.to_thread(database.prepare)
            saver = open_checkpointer(parsed, synchronous, database.writer.patience)
            checkpointer = await stack.enter_async_context(saver)
        leases = await stack.enter_async_context(Leases(database.writer))
        yield Store(
            url=shown(parsed),
            cache=SqlCache(database.engine, database.writer, reuse_scores=reuse_scores),
            leases=leases,
            checkpointer=checkpointer,
            engine=database.engine,
            writer=database.writer,
        )


class _Shared:
    """A store of one event loop and those who use it."""

    def __init__(self) -> None:
        self.users = 0
        self.opening = asyncio.Lock()
        self.stack = AsyncExitStack()
        self.store: Store | None = None
        self.error: Exception | None = None


_shared: dict[tuple[Any, ...], _Shared] = {}


@asynccontextmanager
async def shared_store(url: str, *, reuse_scores: bool = True) -> AsyncGenerator[Store]:
    """`open_store`, but one for all who ask for this database in this event loop at the same time.

    So hundreds of runs that are started one by one need as few connections as one batch.
    """
    key = (asyncio.get_running_loop(), *place(parse_url(url)))
    shared = _shared.setdefault(key, _Shared())
    shared.users += 1
    try:
        async with shared.opening:
            if shared.error is not None:  # not one timeout after the other
                raise shared.error
            if shared.store is None:
                try:
                    shared.store = await shared.stack.enter_async_context(open_store(url))
                except Exception as e:
                    shared.error = e
                    raise
        store = shared.store
        yield replace(store, cache=store.cache.reusing(reuse_scores))
    finally:
        shared.users -= 1
        if not shared.users:
            del _shared[key]
            await shared.stack.aclose()
