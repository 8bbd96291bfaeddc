"""`open_store`: from a database URL to a migrated database, a cache and a checkpointer."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Literal

from langgraph.checkpoint.base import BaseCheckpointSaver
from sqlalchemy import Engine

from tpo_graph.store.cache import SqlCache
from tpo_graph.store.checkpoints import open_checkpointer
from tpo_graph.store.failures import explained
from tpo_graph.store.leases import Leases
from tpo_graph.store.migrate import upgrade
from tpo_graph.store.urls import make_engine, parse_url, shown
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
    """For writing: everything of this process goes through it."""


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
            engine = make_engine(parsed, synchronous=synchronous)
            stack.callback(engine.dispose)
        with explained(parsed):
            await asyncio.to_thread(upgrade, engine)
            writer = Writer(engine)
            stack.push_async_callback(asyncio.to_thread, writer.close)
            leases = Leases(writer)
            saver = open_checkpointer(parsed, writer, leases.outbox)
            checkpointer = await stack.enter_async_context(saver)
        await stack.enter_async_context(leases)
        yield Store(
            url=shown(parsed),
            cache=SqlCache(engine, writer, leases.outbox, reuse_scores=reuse_scores),
            leases=leases,
            checkpointer=checkpointer,
            engine=engine,
            writer=writer,
        )
