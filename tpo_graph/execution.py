"""Run a graph to its end: in memory, or in a store from which it can be taken up again.

`run.py` starts runs with it, `resuming.py` continues them.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import RunControl
from langgraph.types import StreamMode

from tpo_graph.cache import Cache
from tpo_graph.context import TPOContext
from tpo_graph.events import Event
from tpo_graph.graph import TPOGraph
from tpo_graph.result import TPOResult
from tpo_graph.state import TPOState
from tpo_graph.store import Store, open_store
from tpo_graph.store.failures import explained, is_passing
from tpo_graph.store.history import drop_history

OnEvent = Callable[[Event], None]
OnTask = Callable[[dict[str, Any]], None]
"""Called with LangGraph's own account of each node as it starts and as it ends."""

_PATIENCE_SECONDS = 60.0
"""How long, all told, a run waits for a database server that restarts."""


def run_config(run_id: str, depth: int, thread_id: str | None = None) -> RunnableConfig:
    """LangGraph's configuration of a run.

    The recursion limit is just what the depth needs (4 + 5 D): a broken stop rule fails at once.
    """
    configurable = {"tpo_run_id": run_id}
    if thread_id is not None:
        configurable["thread_id"] = thread_id
    return RunnableConfig(configurable=configurable, recursion_limit=4 + 5 * depth)


async def run_graph(
    graph: TPOGraph,
    graph_input: Any,
    context: TPOContext,
    config: RunnableConfig,
    on_event: OnEvent | None = None,
    on_task: OnTask | None = None,
    **options: Any,
) -> TPOState:
    """Run the graph to its end and return the last state, passing events on as they come."""
    state: TPOState | None = None
    modes: list[StreamMode] = ["custom", "values"]
    if on_task is not None:
        modes.append("tasks")
    async for mode, chunk in graph.astream(
        graph_input, config, context=context, stream_mode=modes, **options
    ):
        if mode == "custom" and on_event is not None:
            on_event(cast(Event, chunk))
        elif mode == "tasks" and on_task is not None:
            on_task(cast(dict[str, Any], chunk))
        elif mode == "values":
            state = cast(TPOState, chunk)
    assert state is not None
    return state


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


async def read_result(state: TPOState, cache: Cache) -> TPOResult:
    """The result of a finished run, from its last state and its cache."""
    chosen, reason = state["chosen"], state["stop_reason"]
    assert chosen is not None
    assert reason is not None
    return TPOResult(
        response=chosen["response"],
        reward=chosen["reward"],
        iteration=chosen["iteration"],
        stop_reason=reason,
        run_id=state["run_id"],
        candidates=await cache.candidates(state["run_id"]),
        steps=await cache.steps(state["run_id"]),
        history=state["history"],
        usage=state["usage"],
    )
