"""Take up a stored run: after a crash or a stop (`resume`), or to go deeper (`extend`).

What was paid for is not paid for again: the run goes on from its last finished node, with the
settings and the models it began with.
"""

from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import RemoveMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph.runtime import RunControl

from tpo_graph.background import run_in_background
from tpo_graph.context import TPOContext
from tpo_graph.durable import opened, run_stored
from tpo_graph.errors import ConfigurationError, StoreError
from tpo_graph.execution import OnEvent, read_result, run_config
from tpo_graph.graph import TPOGraph, create_tpo_graph
from tpo_graph.models import load_chat_model
from tpo_graph.prompts import PromptSet, load_prompts
from tpo_graph.result import TPOResult
from tpo_graph.rewards import RewardFunction, RewardModel, as_reward_model
from tpo_graph.state import TPOState
from tpo_graph.store import Store
from tpo_graph.store.runs import StoredRun, get_run, set_depth


def resume(
    run_id: str,
    *,
    database: str,
    model: str | BaseChatModel | None = None,
    reward_model: str | RewardModel | RewardFunction | None = None,
    critic: str | BaseChatModel | None = None,
    prompts: str | PromptSet | None = None,
    on_event: OnEvent | None = None,
    control: RunControl | None = None,
) -> TPOResult:
    """Take up a stored run and wait for its result; see `aresume`."""
    return run_in_background(
        aresume(
            run_id,
            database=database,
            model=model,
            reward_model=reward_model,
            critic=critic,
            prompts=prompts,
            on_event=on_event,
            control=control,
        )
    )


def extend(
    run_id: str,
    *,
    depth: int,
    database: str,
    model: str | BaseChatModel | None = None,
    reward_model: str | RewardModel | RewardFunction | None = None,
    critic: str | BaseChatModel | None = None,
    prompts: str | PromptSet | None = None,
    on_event: OnEvent | None = None,
    control: RunControl | None = None,
) -> TPOResult:
    """Take a stored run deeper and wait for its result; see `aextend`."""
    return run_in_background(
        aextend(
            run_id,
            depth=depth,
            database=database,
            model=model,
            reward_model=reward_model,
            critic=critic,
            prompts=prompts,
            on_event=on_event,
            control=control,
        )
    )


async def aresume(
    run_id: str,
    *,
    database: str | Store,
    model: str | BaseChatModel | None = None,
    reward_model: str | RewardModel | RewardFunction | None = None,
    critic: str | BaseChatModel | None = None,
    prompts: str | PromptSet | None = None,
    on_event: OnEvent | None = None,
    control: RunControl | None = None,
) -> TPOResult:
    """Go on with a run from its last finished node. A finished run is returned as it is.

    Args:
        database: the URL that holds the run, or a store that is open already.
        model, reward_model, critic, prompts: needed where the run was given an object instead of a
            name; None loads what was named.
        on_event, control: as in `aoptimize`.

    Raises:
        RunNotFoundError: no such run is stored.
        RunBusyError: another live process works on it.
        ConfigurationError: a model must be given, or is not the one that the run began with.
        StoreError: the run has no checkpoints here: it belongs to a host graph.
    """
    handles = {"model": model, "reward_model": reward_model, "critic": critic, "prompts": prompts}
    async with opened(database) as store, store.leases.hold(run_id):
        run = await get_run(store, run_id)
        return await _go_on(store, run, handles, on_event, control)


async def aextend(
    run_id: str,
    *,
    depth: int,
    database: str | Store,
    model: str | BaseChatModel | None = None,
    reward_model: str | RewardModel | RewardFunction | None = None,
    critic: str | BaseChatModel | None = None,
    prompts: str | PromptSet | None = None,
    on_event: OnEvent | None = None,
    control: RunControl | None = None,
) -> TPOResult:
    """Go on with a run to a greater depth, without sampling anything again.

    With the same seed, and a model that honours it, the result is that of one run at this depth.
    The run's other stop rules stay in force.

    Args:
        depth: the new D, greater than the run's own.
        database, model, reward_model, critic, prompts, on_event, control: as in `aresume`.

    Raises:
        ConfigurationError: `depth` is not greater, or as in `aresume`.
        RunNotFoundError, RunBusyError, StoreError: as in `aresume`.
    """
    handles = {"model": model, "reward_model": reward_model, "critic": critic, "prompts": prompts}
    async with opened(database) as store, store.leases.hold(run_id):
        run = await get_run(store, run_id)
        before = run["settings"]["depth"]
        if depth <= before:
            raise ConfigurationError(
                f"depth={depth!r} is not deeper than the {before} that run {run_id!r} has. "
                f"Give at least {before + 1}."
            )
        # Stored first: a crash from here on is resumed at the new depth.
        await set_depth(store, run, depth)
        return await _go_on(store, await get_run(store, run_id), handles, on_event, control)


async def _go_on(
    store: Store,
    run: StoredRun,
    handles: dict[str, Any],
    on_event: OnEvent | None,
    control: RunControl | None,
) -> TPOResult:
    if run["launch"] is None:
        raise StoreError(
            f"run {run['run_id']!r} has no checkpoints in {store.url!r}: it ran inside a host "
            "graph, which keeps them (resume that graph's thread), or it was pruned."
        )
    found = await store.checkpointer.aget_tuple(RunnableConfig(configurable=_thread(run)))
    # Killed before its first checkpoint: there is nothing yet but what was asked.
    asked = [(turn["role"], turn["content"]) for turn in run["conversation"]]
    graph_input = {"messages": convert_to_messages(asked)} if found is None else None
    state = cast(TPOState, found.checkpoint["channel_values"] if found else {})
    ended = state.get("stop_reason") is not None
    if not ended or run["stop_reason"] is None:
        context = TPOContext(**run["settings"])
        graph = _rebuild(store, run, handles)
        config = run_config(run["run_id"], context.depth, thread_id=run["thread_id"])
        if ended:
            await _reopen(graph, config, run["run_id"])
        state = await run_stored(store, graph, graph_input, context, config, on_event, control)
    return await read_result(state, store.cache)


def _thread(run: StoredRun) -> dict[str, str]:
    return {"thread_id": run["thread_id"] or "", "checkpoint_ns": ""}


async def _reopen(graph: TPOGraph, config: RunnableConfig, run_id: str) -> None:
    """Put a finished run back to where `select` decides whether to go on."""
    answer = RemoveMessage(id=f"tpo-{run_id}")
    undone = {"stop_reason": None, "review": None, "messages": [answer]}
    await graph.aupdate_state(config, undone, as_node="reward_score")


def _rebuild(store: Store, run: StoredRun, handles: dict[str, Any]) -> TPOGraph:
    """The graph that the run began with, on this store.

    Raises:
        ConfigurationError: a model cannot be loaded, or rewards would not be comparable.
    """
    launch = run["launch"] or {}
    given: dict[str, Any] = {
        name: launch.get(name) if h is None else h for name, h in handles.items()
    }
    for name in ("model", "reward_model", "prompts"):
        if given[name] is None:
            raise ConfigurationError(
                f"run {run['run_id']!r} was started with an object as its {name} "
                f"({run['policy' if name == 'model' else name]!r}), which no database can hold. "
                f"Give {name}=... to go on with it."
            )
    reward_model = as_reward_model(given["reward_model"])
    named_in_context = run["settings"].get("reward_model") is not None
    if not named_in_context and reward_model.name != run["reward_model"]:
        raise ConfigurationError(
            f"the reward model {reward_model.name!r} is not {run['reward_model']!r}, which scored "
            f"run {run['run_id']!r} so far: rewards of two models cannot be compared. Give the "
            "same one, or score the run anew with: tpo runs rescore"
        )
    prompts = given["prompts"]
    return create_tpo_graph(
        load_chat_model(given["model"]),
        reward_model,
        critic=given["critic"],
        prompts=prompts if isinstance(prompts, PromptSet) else load_prompts(prompts),
        cache=store.cache,
        checkpointer=store.checkpointer,
    )
