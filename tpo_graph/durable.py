"""Run a graph in a store: every step is committed, and a server that restarts is waited for.

Apart from `execution.py` because it brings SQLAlchemy and Alembic, which a run in memory needs not.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import RunControl

from tpo_graph.context import TPOContext
from tpo_graph.execution import OnEvent, OnTask, run_graph
from tpo_graph.graph import TPOGraph
from tpo_graph.state import TPOState
from tpo_graph.store import Store, open_store
from tpo_graph.store.failures import explained, is_passing
from tpo_graph.store.history import drop_history

_PATIENCE_SECONDS = 60.0
"""How long, all told, a run waits for a database server that restarts."""


async def run_stored(
    store: Store,
    graph: TPOGraph,
    graph_input: Any,
    context: TPOContext,
    config: RunnableConfig,
    on_event: OnEvent | None = None,
    control: RunControl | None = None,
    on_task: OnTask | None = None,
) -> TPOState:
    """`run_graph` on a thread of the store, every step durable; the caller holds the run's lease.

    A server that restarts is waited for: the run goes on from its last checkpoint.

    Raises:
        GraphDrained: `control` asked for a stop; the run can be resumed.
        StoreError: the database failed.
    """
    pause, waited = 0.1, 0.0
    with explained(store.engine.url):
        while True:
            try:
                if waited and (await graph.aget_state(config)).created_at:
                    graph_input = None  # the run had begun
                state = await run_graph(
                    graph,
                    graph_input,
                    context,
                    config,
                    on_event,
                    on_task,
                    durability="sync",
                    control=control or RunControl(),
                )
                if state["stop_reason"] is not None:
                    await drop_history(store, config.get("configurable", {})["thread_id"])
                return state
            except Exception as e:
                if not is_passing(e) or waited > _PATIENCE_SECONDS:
                    raise
            await asyncio.sleep(pause)
            waited, pause = waited + pause, min(2 * pause, 2.0)


@asynccontextmanager
async def opened(database: str | Store, *, reuse_scores: bool = True) -> AsyncGenerator[Store]:
    """The store itself, or one opened from its URL and closed afterwards."""
    if isinstance(database, Store):
        yield database
    else:
        async with open_store(database, reuse_scores=reuse_scores) as store:
            yield store
