"""The wiring: six nodes, one loop, one conditional edge. This *is* the algorithm.

    START -> sample -> reward_score -> select -> loss -> gradient -> update -> reward_score
                                              -> END, once `select` has written a stop reason

Best-of-N is depth 0; revision is another prompt set. There are no modes.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Unpack

from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from tpo_graph import nodes
from tpo_graph.cache import Cache, MemoryCache, need_cache
from tpo_graph.context import TPOContext
from tpo_graph.errors import refuse_unknown
from tpo_graph.models.connection import connected
from tpo_graph.models.load import load_chat_model
from tpo_graph.nodes.handles import Handles
from tpo_graph.nodes.step import Node
from tpo_graph.prompts import PromptSet, load_prompts
from tpo_graph.rewards import RewardFunction, RewardModel, as_reward_model
from tpo_graph.state import TPOInput, TPOState
from tpo_graph.strategies import RunSettings, Strategy, by_name, split_objects

TPOGraph = CompiledStateGraph[TPOState, TPOContext, TPOInput, TPOState]


def create_tpo_graph(
    model: str | BaseChatModel,
    reward_model: str | RewardModel | RewardFunction,
    *,
    critic: str | BaseChatModel | None = None,
    prompts: str | PromptSet = "tpo",
    cache: Cache | None = None,
    checkpointer: BaseCheckpointSaver[Any] | bool | None = None,
    interrupt_at: str | Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
    policies: Mapping[str, str | BaseChatModel] | None = None,
    critics: Mapping[str, str | BaseChatModel] | None = None,
    reward_models: Mapping[str, str | RewardModel | RewardFunction] | None = None,
    strategies: Sequence[Strategy] = (),
    name: str = "tpo",
    model_options: Mapping[str, Any] | None = None,
    critic_options: Mapping[str, Any] | None = None,
    reward_model_options: Mapping[str, Any] | None = None,
    **settings: Unpack[RunSettings],
) -> TPOGraph:
    """Test-Time Preference Optimization as a compiled graph (paper, Algorithm 1).

    Input and output are `messages`; the answer is appended as one AIMessage. Invoke it, stream it,
    or add it to another graph as a node. The answer is never worse, by the reward model, than the
    best of the first samples.

    Args:
        model: the policy: "provider:model", "local:PATH_OR_HUB_ID" or a LangChain chat model.
        reward_model: a name such as "local:PATH_OR_HUB_ID" (the others: `load_reward_model`), a
            `RewardModel`, or f(query, response) -> float.
        critic: writes loss and gradient; the policy itself when None.
        prompts: "tpo", "revision", a folder, or a loaded set.
        cache: where candidates, steps and usage go; in memory when None.
        checkpointer: as in `StateGraph.compile`; None inherits a parent graph's.
        interrupt_at: "select" and/or "gradient": wait there for a person
            (`tpo_graph.nodes.review`).
        defaults: fields of `TPOContext` for runs that do not set them.
        policies, critics, reward_models: what a run's context may choose instead, by name. Nothing
            else can be named there: on a server, the context comes with a request.
        strategies: objects of your own that `select`, `pick` or `stop` of a run's context may name
            (`tpo_graph.strategies`); those given in `defaults` count among them.
        name: the graph's name in traces and in a parent's stream.
        model_options, critic_options, reward_model_options: how the server of a role that is given
            by name is reached, in LangChain's words: `base_url`, `api_key` or `api_key_env` (the
            name of a variable), `default_headers`, `extra_body`, `timeout`, `max_retries`.
        settings: `depth`, `width`, `criteria` and so on, for runs that do not set them: the same as
            in `defaults`.

    Raises:
        ConfigurationError: a name cannot be resolved, a prompt set breaks a rule, or the defaults
            cannot be followed.
    """
    context_schema = TPOContext
    refuse_unknown(
        settings,
        {*inspect.signature(create_tpo_graph).parameters, *TPOContext.model_fields} - {"settings"},
    )
    plain, objects = split_objects({**(defaults or {}), **settings})
    if plain or interrupt_at:
        context_schema = TPOContext.with_defaults({"interrupt_at": interrupt_at, **plain})
    if cache is not None:
        need_cache(cache)
    policy = load_chat_model(connected(model, model_options, "model"))
    critic = connected(critic, critic_options, "critic")
    reward_model = connected(reward_model, reward_model_options, "reward_model")
    handles = Handles(
        policy=policy,
        critic=policy if critic is None else load_chat_model(critic),
        reward_model=as_reward_model(reward_model),
        prompts=prompts if isinstance(prompts, PromptSet) else load_prompts(prompts),
        cache=MemoryCache() if cache is None else cache,
        policies=policies or {},
        critics=critics or {},
        reward_models=reward_models or {},
        strategies=by_name([*strategies, *objects]),
    )
    handles.check(context_schema())
    return wired(handles, context_schema).compile(checkpointer=checkpointer, name=name)


def wired(
    tpo: Handles, context_schema: type[TPOContext]
) -> StateGraph[TPOState, TPOContext, TPOInput, TPOState]:
    """The algorithm: its steps, each with what it needs, and the order they run in."""
    graph = StateGraph(
        TPOState, context_schema=context_schema, input_schema=TPOInput, output_schema=TPOState
    )
    for step in (
        nodes.sample,
        nodes.reward_score,
        nodes.select,
        nodes.loss,
        nodes.gradient,
        nodes.update,
    ):
        graph.add_node(step.__name__, Node(step, tpo, context_schema))
    graph.add_edge(START, "sample")
    graph.add_edge("sample", "reward_score")
    graph.add_edge("reward_score", "select")
    graph.add_conditional_edges("select", DeeperOrStop(), {"deeper": "loss", "stop": END})
    graph.add_edge("loss", "gradient")
    graph.add_edge("gradient", "update")
    graph.add_edge("update", "reward_score")
    return graph


class DeeperOrStop(Runnable[TPOState, Literal["deeper", "stop"]]):
    """The stop rule's edge: `select` has decided (`tpo_graph.stopping`), this only reads it.

    Not a function: LangGraph would call it in another thread, and a run that is cancelled in the
    meantime would keep what `select` wrote without where to go next, and could not be resumed.
    """

    name = "deeper_or_stop"

    def invoke(
        self, input: TPOState, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Literal["deeper", "stop"]:
        """The name of the edge to take."""
        return "deeper" if input["stop_reason"] is None else "stop"

    async def ainvoke(
        self, input: TPOState, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Literal["deeper", "stop"]:
        """`invoke`, without giving up the event loop."""
        return self.invoke(input)
