"""Run a graph to its end and read its result; `session/stored.py` does it in a store."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, TypedDict, Unpack, cast
from uuid import UUID

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import RunControl
from langgraph.types import Durability, StreamMode

from tpo_graph.cache import RunReader
from tpo_graph.concurrency.callbacks import settled
from tpo_graph.context import TPOContext
from tpo_graph.conversation import query_text, well_formed
from tpo_graph.events import Event
from tpo_graph.graph import TPOGraph
from tpo_graph.nodes.tracing import run_span
from tpo_graph.session.result import TPOResult
from tpo_graph.state import TPOState

OnEvent = Callable[[Event], None] | Callable[[Event], Awaitable[None]]
"""Called with each progress event; an async one is awaited, and the run waits for it."""


class Told(TypedDict, total=False):
    """Who is told of a run as it goes on, and who may stop it."""

    on_event: OnEvent | None
    on_task: Callable[[dict[str, Any]], None] | None
    """Called with LangGraph's own account of each node as it starts and as it ends."""
    control: RunControl | None
    """Its `request_drain()` stops the run before its next step."""


def run_config(
    run_id: str, depth: int, thread_id: str | None = None, *, answer_id: str | None = None
) -> RunnableConfig:
    """LangGraph's configuration of a run.

    The recursion limit is just what the depth needs (4 + 5 D): a broken stop rule fails at once.

    Args:
        answer_id: the id of the answer's message, where it takes another message's place; the run
            then leaves it to the caller to show it in `stream_mode="messages"`.
    """
    configurable = {"tpo_run_id": run_id}
    if answer_id is not None:
        configurable["tpo_answer_id"] = answer_id
    if thread_id is not None:
        configurable["thread_id"] = thread_id
    return RunnableConfig(configurable=configurable, recursion_limit=4 + 5 * depth)


def as_trace(config: RunnableConfig, run_id: str) -> RunnableConfig:
    """The configuration of a new run whose trace, at LangSmith and its like, has the run's own id.

    So feedback on the run can be given by `TPOResult.run_id`. A run that is resumed is another
    trace; one whose id is no UUID gets a trace id of its own.
    """
    with suppress(ValueError):
        config["run_id"] = UUID(run_id)
    return config


async def run_graph(
    graph: TPOGraph,
    graph_input: Any,
    context: TPOContext,
    config: RunnableConfig,
    durability: Durability | None = None,
    **told: Unpack[Told],
) -> TPOState:
    """Run the graph to its end and return the last state, passing events on as they come."""
    state: TPOState | None = None
    modes: list[StreamMode] = ["custom", "values"]
    on_event, on_task = told.get("on_event"), told.get("on_task")
    if on_task is not None:
        modes.append("tasks")
    run_id = config.get("configurable", {})["tpo_run_id"]
    with run_span(run_id, context.model_dump(include={"depth", "width"})):
        async for mode, chunk in graph.astream(
            graph_input,
            config,
            context=context,
            stream_mode=modes,
            durability=durability,
            control=told.get("control") or RunControl(),
        ):
            if mode == "custom" and on_event is not None:
                await settled(on_event(cast(Event, chunk)))
            elif mode == "tasks" and on_task is not None:
                on_task(cast(dict[str, Any], chunk))
            elif mode == "values":
                state = cast(TPOState, chunk)
    assert state is not None
    return state


async def read_result(
    state: TPOState, cache: RunReader, context: TPOContext, names: Mapping[str, str]
) -> TPOResult:
    """The result of a finished run, from its last state and its cache.

    Args:
        context: what the run was told.
        names: of its models: "policy", "critic" and "reward_model".
    """
    answer, reason = state.get("answer") or state["chosen"], state["stop_reason"]
    assert answer is not None
    assert reason is not None
    candidates, steps = await cache.whole(state["run_id"])
    failure = state.get("failure")
    return TPOResult(
        response=answer["response"],
        reward=answer["reward"],
        iteration=answer["iteration"],
        stop_reason=reason,
        run_id=state["run_id"],
        candidates=candidates,
        steps=steps,
        history=state["history"],
        usage=state["usage"],
        error=None if failure is None else failure["error"],
        may_pass=failure is not None and failure["may_pass"],
        query=well_formed(query_text(state["messages"])),
        models={
            "policy": names["policy"],
            "critic": names["critic"],
            "reward_model": names["reward_model"],
        },
        settings=context,
    )
