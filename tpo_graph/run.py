"""One query, one answer: `optimize` and `aoptimize` build the graph, run it and read the cache."""

from collections.abc import Callable, Sequence
from typing import Any, cast
from uuid import uuid4

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from pydantic import ValidationError

from tpo_graph.background import run_in_background
from tpo_graph.cache import Cache, MemoryCache
from tpo_graph.context import TPOContext, invalid_settings
from tpo_graph.events import Event
from tpo_graph.graph import TPOGraph, create_tpo_graph
from tpo_graph.prompts import PromptSet
from tpo_graph.result import TPOResult
from tpo_graph.rewards import RewardFunction, RewardModel
from tpo_graph.state import TPOState

Query = str | Sequence[BaseMessage]
OnEvent = Callable[[Event], None]


def optimize(
    query: Query,
    *,
    model: str | BaseChatModel,
    reward_model: str | RewardModel | RewardFunction,
    critic: str | BaseChatModel | None = None,
    prompts: str | PromptSet = "tpo",
    on_event: OnEvent | None = None,
    **settings: Any,
) -> TPOResult:
    """Answer one query with TPO and wait for the result; see `aoptimize`."""
    return run_in_background(
        aoptimize(
            query,
            model=model,
            reward_model=reward_model,
            critic=critic,
            prompts=prompts,
            on_event=on_event,
            **settings,
        )
    )


async def aoptimize(
    query: Query,
    *,
    model: str | BaseChatModel,
    reward_model: str | RewardModel | RewardFunction,
    critic: str | BaseChatModel | None = None,
    prompts: str | PromptSet = "tpo",
    on_event: OnEvent | None = None,
    **settings: Any,
) -> TPOResult:
    """Answer one query with Test-Time Preference Optimization (paper, Algorithm 1).

    Args:
        query: the question, or a conversation as LangChain messages.
        model, reward_model, critic, prompts: as in `create_tpo_graph`.
        on_event: called with each progress event (`tpo_graph.events`).
        settings: fields of `TPOContext`: `depth`, `width`, `seed`, `criteria` and so on.

    Raises:
        ConfigurationError: an option, a name or a prompt set is wrong; nothing was run.
        PolicyError: the policy or the critic failed.
        RewardError: the reward model failed.
    """
    context = make_context(settings)
    cache = MemoryCache()
    graph = create_tpo_graph(model, reward_model, critic=critic, prompts=prompts, cache=cache)
    run_id = str(uuid4())
    config = RunnableConfig(
        configurable={"tpo_run_id": run_id}, recursion_limit=steps_needed(context.depth)
    )
    messages = [HumanMessage(query)] if isinstance(query, str) else list(query)
    state = await run_graph(graph, {"messages": messages}, context, config, on_event)
    return await read_result(state, cache)


def make_context(settings: dict[str, Any]) -> TPOContext:
    """A `TPOContext` of these fields.

    Raises:
        ConfigurationError: an unknown field, or a value out of bounds; shows it.
    """
    try:
        return TPOContext(**settings)
    except ValidationError as e:
        raise invalid_settings(e, TPOContext) from e


def steps_needed(depth: int) -> int:
    """LangGraph's recursion limit for a run: a broken stop rule fails at once (4 + 5 D)."""
    return 4 + 5 * depth


async def run_graph(
    graph: TPOGraph,
    graph_input: Any,
    context: TPOContext,
    config: RunnableConfig,
    on_event: OnEvent | None = None,
    **options: Any,
) -> TPOState:
    """Run the graph to its end and return the last state, passing events on as they come."""
    state: TPOState | None = None
    async for mode, chunk in graph.astream(
        graph_input, config, context=context, stream_mode=["custom", "values"], **options
    ):
        if mode == "custom" and on_event is not None:
            on_event(cast(Event, chunk))
        elif mode == "values":
            state = cast(TPOState, chunk)
    assert state is not None
    return state


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
