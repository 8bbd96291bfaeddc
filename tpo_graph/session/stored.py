"""Run a graph in a store, or resume a run: every step is committed, a restart is waited for.

Apart from `running.py` because it brings SQLAlchemy and Alembic, which no run in memory needs.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, Unpack, cast

from langchain_core.messages import RemoveMessage
from langchain_core.runnables import RunnableConfig
from tenacity import AsyncRetrying, retry_if_exception, wait_exponential

from tpo_graph.context import TPOContext
from tpo_graph.conversation import from_turns
from tpo_graph.errors import ConfigurationError, RewardInputError, RunNotFoundError, StoreError
from tpo_graph.graph import TPOGraph
from tpo_graph.nodes.step import BEFORE
from tpo_graph.redaction import redacted
from tpo_graph.rewards import RewardModel
from tpo_graph.session.result import TPOResult
from tpo_graph.session.running import Told, read_result, run_config, run_graph
from tpo_graph.state import TPOState
from tpo_graph.store import Store
from tpo_graph.store.attempts import change_settings, open_again, set_aside
from tpo_graph.store.failures import explained, is_passing
from tpo_graph.store.history import drop_history, other_thread, place
from tpo_graph.store.opening import shared_store
from tpo_graph.store.runs import StoredRun, get_run

_log = logging.getLogger(__name__)
_PATIENCE_SECONDS = 60.0
"""How long, all told, a run waits for a database server that restarts."""
FAILED = frozenset({"failed"})


async def run_stored(
    store: Store,
    graph: TPOGraph,
    graph_input: Any,
    context: TPOContext,
    config: RunnableConfig,
    **told: Unpack[Told],
) -> TPOState:
    """`run_graph` on a thread of the store, every step durable; the caller holds the run's lease.

    A server that restarts is waited for: the run resumes from its last checkpoint. A run that ends
    keeps only that.
    """
    again = AsyncRetrying(
        retry=retry_if_exception(is_passing),
        wait=wait_exponential(0.1, max=2.0),
        stop=lambda state: state.idle_for > _PATIENCE_SECONDS,
        reraise=True,
    )

    async def once() -> TPOState:
        stored = await graph.aget_state(config) if again.statistics["attempt_number"] > 1 else None
        begun = stored is not None and stored.created_at is not None
        given = None if begun else graph_input
        return await run_graph(graph, given, context, config, durability="sync", **told)

    with explained(store.engine.url):
        state: TPOState = await again(once)
    if state.get("stop_reason") is not None:
        names = config.get("configurable", {})
        await _without_history(store, names["tpo_run_id"], names["thread_id"])
    return state


async def _without_history(store: Store, run_id: str, thread_id: str) -> None:
    try:
        with explained(store.engine.url):
            await drop_history(store, run_id, thread_id)
    except StoreError as e:  # the run has its answer, and can go deeper all the same
        _log.warning("the earlier checkpoints of run %r were not dropped: %s", run_id, e)


@asynccontextmanager
async def held(
    store: Store, run_id: str, limits: Mapping[str, Any] | None = None
) -> AsyncGenerator[StoredRun]:
    """Be the only one who works on a stored run, as it is to be resumed.

    A run that failed because none of its first samples could be scored begins anew: its last
    finished step would fail the same way for ever.

    Args:
        limits: settings that it gets from now on.
    """
    before = await get_run(store, run_id)
    async with store.leases.hold(run_id):
        if (before["error"] or "").startswith(RewardInputError.__name__):
            await _forget_unscored(store, before)
        if limits:
            await change_settings(store, run_id, limits)
        yield await get_run(store, run_id)


async def go_on(
    store: Store,
    run: StoredRun,
    graph: Callable[[], TPOGraph],
    *,
    reopen: Collection[str] = FAILED,
    start: Callable[[], Awaitable[dict[str, Any]]] | None = None,
    **told: Unpack[Told],
) -> TPOResult:
    """Resume a stored run from its last finished node; the caller holds the run's lease.

    Args:
        graph: gives the graph that the run began with, on this store; asked only if the run has
            not ended.
        reopen: stop reasons after which a run goes on all the same: "failed" at the step that
            failed, "no_usable_update" at the step that gave nothing, "no_change" at the loss,
            another where `select` decides anew.
        start: gives the run's input as it was given, pictures and all, of which the store has the
            words; asked only if the run has not begun.

    Raises:
        GraphDrained: `control` asked for a stop; the run can be resumed.
        RunNotFoundError: the run has no checkpoints here.
        StoreError: the database failed.
    """
    if run["launch"] is None:
        raise RunNotFoundError(
            f"run {run['run_id']!r} has no checkpoints in {store.url!r}: it ran inside a host "
            "graph, which keeps them (resume that graph's thread), or it was pruned."
        )
    thread_id = run["thread_id"] or ""
    # What a kill may have left of an earlier end.
    await store.checkpointer.adelete_thread(other_thread(run["run_id"], thread_id))
    found = await store.checkpointer.aget_tuple(place(thread_id))
    # Killed before its first checkpoint: there is nothing yet but what was asked.
    graph_input = None
    if found is None:
        graph_input = {"messages": from_turns(run["conversation"])}
        if start is not None:
            graph_input = await start()
    state = cast(TPOState, found.checkpoint["channel_values"] if found else {})
    ended = state.get("stop_reason")
    if ended is None or run["stop_reason"] is None or ended in reopen:
        context = TPOContext(**run["settings"])
        built = graph()
        config = run_config(run["run_id"], context.depth, thread_id=run["thread_id"])
        if ended is not None:
            await _reopen(store, built, config, state)
        state = await _to_its_end(store, built, graph_input, context, config, **told)
    else:  # a kill may have come between its end and this
        await _without_history(store, run["run_id"], thread_id)
    names = {role: run[role] for role in ("policy", "critic", "reward_model")}
    return await read_result(state, store.cache, TPOContext(**run["settings"]), names)


async def _to_its_end(
    store: Store,
    graph: TPOGraph,
    graph_input: Any,
    context: TPOContext,
    config: RunnableConfig,
    **told: Unpack[Told],
) -> TPOState:
    state = await run_stored(store, graph, graph_input, context, config, **told)
    if state["stop_reason"] is None:
        # An earlier version was cancelled between what `select` wrote and where to go next.
        await graph.aupdate_state(config, {}, as_node="reward_score")
        state = await run_stored(store, graph, None, context, config, **told)
    return state


async def _forget_unscored(store: Store, run: StoredRun) -> None:
    """Let a run without any scored response start over; what it has consumed stays on record."""
    run_id = run["run_id"]
    if await store.cache.candidates(run_id):
        return
    await set_aside(store, run_id, [(0, "sample"), (0, "reward_score")])
    await store.checkpointer.adelete_thread(run["thread_id"] or run_id)


async def _reopen(store: Store, graph: TPOGraph, config: RunnableConfig, state: TPOState) -> None:
    """Put a run that has ended back to where it may go on.

    The rows come first: after a crash in between it is opened again as before.
    """
    run_id, iteration, failure = state["run_id"], state["iteration"], state.get("failure")
    undone: dict[str, Any] = {
        "stop_reason": None,
        "failure": None,
        "messages": [RemoveMessage(id=f"tpo-{run_id}")],
    }
    if failure is not None:
        await open_again(store, run_id)
        await graph.aupdate_state(config, undone, as_node=BEFORE[failure["step"]])
    elif state["stop_reason"] in ("no_usable_update", "no_change"):
        step = "update" if state["gradient"] else "gradient" if state["loss"] else "loss"
        if state["stop_reason"] == "no_change":  # the critic is asked once more, from the start
            step = "loss"
        again = [(iteration - 1, "loss"), (iteration - 1, "gradient")]
        again += [(iteration, "update"), (iteration, "reward_score")]
        await open_again(store, run_id, again[list(BEFORE).index(step) :])
        undone["iteration"] = iteration - 1
        undone["history"] = [row for row in state["history"] if row["iteration"] < iteration]
        await graph.aupdate_state(config, undone, as_node=BEFORE[step])
    else:
        await open_again(store, run_id)
        undone["review"] = None
        await graph.aupdate_state(config, undone, as_node="reward_score")


def need_same_rewards(run: StoredRun, reward_model: RewardModel) -> None:
    """Refuse to resume a run under another reward model than scored it so far."""
    if run["settings"].get("reward_model") is None and redacted(reward_model.name) != redacted(
        run["reward_model"]
    ):
        raise ConfigurationError(
            f"the reward model {reward_model.name!r} is not {run['reward_model']!r}, which scored "
            f"run {run['run_id']!r} so far: rewards of two models cannot be compared. Give the "
            "same one, or rescore the run with: tpo runs rescore"
        )


@asynccontextmanager
async def opened(database: str | Store, *, reuse_scores: bool = True) -> AsyncGenerator[Store]:
    """The store itself, or the one on that URL, closed when nobody uses it any more."""
    if isinstance(database, Store):
        yield database
    else:
        async with shared_store(database, reuse_scores=reuse_scores) as store:
            yield store
