"""TPO as middleware of `langchain.agents.create_agent`: it improves the agent's final answers.

It wraps the agent's model call. The agent's own answer is the draft: the first of the N first
samples. What the agent returns and streams is the best response, in one message.
"""

import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from inspect import isawaitable
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict, Unpack, cast
from uuid import uuid4

from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
from langchain.agents.middleware.types import OmitFromSchema, PrivateStateAttr
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels import UntrackedValue
from langgraph.constants import TAG_NOSTREAM
from langgraph.runtime import Runtime

from tpo_graph.agents.answers import is_final_answer, refined, unrefined
from tpo_graph.agents.structured import FittingReward, StructuredForm, form_of, with_value
from tpo_graph.cache import Cache, MemoryCache, need_cache
from tpo_graph.concurrency.background import run_in_background
from tpo_graph.concurrency.callbacks import need_callable, settled
from tpo_graph.context import NamedSettings, RunOptions, TPOContext, part_for_tpo
from tpo_graph.errors import ConfigurationError, TPOError, instead, refuse_unknown
from tpo_graph.graph import TPOGraph
from tpo_graph.models.load import load_chat_model
from tpo_graph.nodes.handles import check_criteria
from tpo_graph.nodes.review import can_wait
from tpo_graph.prompts import PromptSet, load_prompts
from tpo_graph.rewards import RewardFunction, RewardModel, as_reward_model
from tpo_graph.session.running import run_config
from tpo_graph.session.setup import Choices, Setup
from tpo_graph.state import TPOInput, TPOState
from tpo_graph.strategies import MoreSettings, split_objects

_log = logging.getLogger("tpo_graph")

When = Callable[[ModelRequest[Any], AIMessage], bool | Awaitable[bool]]
"""(request, draft) -> whether to improve this draft; sync or async."""


class TPORequest(NamedSettings, total=False):
    """What one request to the agent may say about its own answer: settings of its run, and:"""

    skip: bool
    """Leave the answer as the agent wrote it."""


class TPOAgentState(AgentState[Any]):
    """An agent's state with this request's wishes."""

    tpo: NotRequired[
        Annotated[TPORequest | None, UntrackedValue, OmitFromSchema(input=False, output=True)]
    ]
    """As the request gives them. No checkpoint holds them: the thread's next request would find
    those of one that has failed, or that nobody has answered."""
    tpo_wishes: NotRequired[Annotated[TPORequest | None, PrivateStateAttr]]
    """The same, kept for a request that is resumed."""


class _Start(TypedDict):
    """Arguments of the graph's `invoke`."""

    input: TPOInput
    config: RunnableConfig
    context: TPOContext


class _Draft(NamedTuple):
    """What an agent answered, as TPO sees it."""

    message: AIMessage
    text: str
    form: StructuredForm | None = None
    """Of a structured response; the text is JSON then."""
    told: str | None = None
    """What the agent's strategy tells in the message that confirms a structured response."""

    def answered(self, response: ModelResponse[Any], state: TPOState) -> ModelResponse[Any]:
        """The agent's response with the run's answer in its place."""
        if self.form is None:
            return replace(response, result=[refined(self.message, state)])
        answer = refined(self.message.model_copy(update={"content": self.text}), state)
        result, value = with_value(response.result, answer, self.form, self.told)
        return replace(response, result=result, structured_response=value)


class TPOMiddleware(AgentMiddleware[TPOAgentState, Any, Any]):
    """Improves an agent's final answers by Test-Time Preference Optimization.

    Messages that call tools and answers that hold more than text pass through untouched. Of
    structured output the best that fits its schema is kept; the reward model sees the JSON. The
    conversation, tool results included, is the query. The answer is never worse, by the reward
    model, than the agent's own. Put it last in `middleware`, next to the model.

    A request may set `skip` and every setting of a run, such as `depth`: in the agent's state
    (`agent.invoke({"messages": ..., "tpo": {"depth": 2}})`, for this request only) or in its
    context (key or attribute `tpo`).

    Args:
        reward_model: "local:PATH_OR_HUB_ID", a `RewardModel`, or f(query, response) -> float.
        model: the policy; the agent's own model when None.
        critic: writes loss and gradient; the policy itself when None.
        depth: D, iterations. 0 is the best of N.
        width: N, responses per iteration; the agent's draft is one of the first N.
        prompts: "tpo", "revision", a folder, or a loaded set.
        when: (request, draft) -> whether to improve this draft, sync or async; always when None.
        on_error: "keep" logs a warning when TPO fails, puts the error in
            `response_metadata["tpo"]`, and answers with the best that was scored until then, or
            with the draft where nothing was; "raise" raises the error.
        cache: where candidates, steps and usage go; in memory when None.
        settings: other fields of `TPOContext`: `temperature`, `max_tokens`, `criteria` and so on.

    Raises:
        ConfigurationError: a setting, a name, a function or a prompt set is wrong (when it is
            made); `interrupt_at` in an agent without a thread to come back to (before the first
            call). Neither depends on `on_error`.
    """

    state_schema = TPOAgentState

    def __init__(
        self,
        reward_model: str | RewardModel | RewardFunction,
        *,
        model: str | BaseChatModel | None = None,
        critic: str | BaseChatModel | None = None,
        depth: int = 1,
        width: int = 4,
        prompts: str | PromptSet = "tpo",
        when: When | None = None,
        on_error: Literal["keep", "raise"] = "keep",
        cache: Cache | None = None,
        **settings: Unpack[MoreSettings],
    ) -> None:
        known = {*inspect.signature(TPOMiddleware).parameters, *TPOContext.model_fields}
        refuse_unknown(settings, known - {"settings"})
        super().__init__()
        self.tools = []
        if on_error not in ("keep", "raise"):
            raise ConfigurationError(f'on_error={on_error!r} is not valid: "keep" or "raise"')
        need_callable("when", when, "request, draft")
        on_failure = "raise" if on_error == "raise" else "answer"
        plain, strategies = split_objects(settings)
        self._settings = {"depth": depth, "width": width, "on_failure": on_failure, **plain}
        self._choices = Choices(strategies=strategies)
        self._defaults = TPOContext.checked(self._settings)
        if self._defaults.policy is not None:
            raise ConfigurationError(
                f"policy={self._defaults.policy!r} is a choice among a graph's, and an agent's "
                "middleware has none: name the policy with model="
            )
        self._reward_model = as_reward_model(reward_model)
        self._model = None if model is None else load_chat_model(model)
        self._critic = None if critic is None else load_chat_model(critic)
        self._prompts = prompts if isinstance(prompts, PromptSet) else load_prompts(prompts)
        check_criteria(self._defaults.criteria, self._prompts)
        self._cache = MemoryCache() if cache is None else cache
        need_cache(self._cache)
        self._when = when
        self._on_error = on_error
        self._graph: tuple[BaseChatModel, TPOGraph] | None = None

    def wrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], ModelResponse[Any]],
    ) -> ModelResponse[Any]:
        """Let the agent's model answer, and improve the answer if it is a final one."""
        if _skips(request):
            return handler(request)
        can_wait(self._defaults, request.runtime)
        response = handler(_unstreamed(request))
        draft = self._draft(request, response)
        if draft is None:
            return response
        wanted = self._wanted(request, draft)
        if not (run_in_background(settled(wanted)) if isawaitable(wanted) else wanted):
            return response
        try:
            graph, start = self._start(request, draft)
            state: Any = None
            for mode, chunk in graph.stream(**start, stream_mode=["custom", "values"]):
                state = _told(request, mode, chunk, state)
            return draft.answered(response, cast(TPOState, state))
        except TPOError as error:
            return replace(
                response, result=[self._kept(draft.message, error), *response.result[1:]]
            )

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """See `wrap_model_call`."""
        if _skips(request):
            return await handler(request)
        can_wait(self._defaults, request.runtime)
        response = await handler(_unstreamed(request))
        draft = self._draft(request, response)
        if draft is None or not await settled(self._wanted(request, draft)):
            return response
        try:
            graph, start = self._start(request, draft)
            state: Any = None
            async for mode, chunk in graph.astream(**start, stream_mode=["custom", "values"]):
                state = _told(request, mode, chunk, state)
            return draft.answered(response, cast(TPOState, state))
        except TPOError as error:
            return replace(
                response, result=[self._kept(draft.message, error), *response.result[1:]]
            )

    def before_agent(self, state: TPOAgentState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Keep this request's wishes, in the place of those of the thread's last one."""
        wishes = state.get("tpo")
        return None if wishes == state.get("tpo_wishes") else {"tpo_wishes": wishes}

    def _draft(self, request: ModelRequest[Any], response: ModelResponse[Any]) -> "_Draft | None":
        """What there is to improve, or None."""
        message = response.result[0] if response.result else None
        if not isinstance(message, AIMessage):
            return None
        if response.structured_response is not None:
            if len(message.tool_calls) > 1:  # a tool of the agent's own was called beside it
                return None
            form = form_of(request.response_format, message, response.structured_response)
            told = getattr(request.response_format, "tool_message_content", None)
            text = form.written(message, response.structured_response)
            return _Draft(message, text, form, told)
        if len(response.result) == 1 and is_final_answer(message):
            return _Draft(message, str(message.text))
        return None

    def _wanted(self, request: ModelRequest[Any], draft: "_Draft") -> bool | Awaitable[bool]:
        return self._when is None or self._when(request, draft.message)

    def _start(self, request: ModelRequest[Any], draft: "_Draft") -> tuple[TPOGraph, _Start]:
        wishes = {name: value for name, value in _wishes(request).items() if name != "skip"}
        known = ["skip", *sorted(RunOptions.model_fields)]
        if unknown := sorted(wishes.keys() - set(known)):
            raise ConfigurationError(
                f"a request cannot set {unknown[0]!r}; {instead(unknown[0], known)}"
            )
        context = TPOContext.checked({**self._settings, **wishes})
        system = [] if request.system_message is None else [request.system_message]
        messages: list[Any] = [*system, *request.messages]
        if draft.form is not None:
            messages = draft.form.asked(messages)
        return self._graph_for(self._model or request.model, draft.form), _Start(
            input=TPOInput(messages=messages, drafts=[draft.text]),
            config=run_config(str(uuid4()), context.depth, answer_id=draft.message.id),
            context=context,
        )

    def _graph_for(self, model: BaseChatModel, form: StructuredForm | None) -> TPOGraph:
        def made(reward_model: RewardModel) -> TPOGraph:
            return Setup(
                model=model,
                reward_model=reward_model,
                critic=self._critic,
                prompts=self._prompts,
                choices=self._choices,
            ).graph(cache=self._cache)

        if form is not None:
            return made(FittingReward(self._reward_model, form))
        if self._graph is None or self._graph[0] is not model:
            self._graph = model, made(self._reward_model)
        return self._graph[1]

    def _kept(self, draft: AIMessage, error: TPOError) -> AIMessage:
        if self._on_error == "raise":
            raise error
        _log.warning(
            "TPO failed, the agent's own answer is returned: %s: %s", type(error).__name__, error
        )
        return unrefined(draft, error)


def _wishes(request: ModelRequest[Any]) -> dict[str, Any]:
    """What this request says: in the agent's context, and over it in its state."""
    in_context = part_for_tpo(getattr(request.runtime, "context", None))
    in_state = part_for_tpo({"tpo": request.state.get("tpo_wishes")})
    return {**(in_context or {}), **(in_state or {})}


def _skips(request: ModelRequest[Any]) -> bool:
    """Whether this request wants no TPO. A malformed wish is a failure of TPO, not of the agent."""
    try:
        return bool(_wishes(request).get("skip"))
    except ConfigurationError:
        return False  # the same error comes back when the run begins, where `on_error` applies


def _told(request: ModelRequest[Any], mode: str, chunk: Any, state: Any) -> Any:
    """The newest state; a progress event goes to the agent's own stream instead."""
    if mode == "values":
        return chunk
    request.runtime.stream_writer(chunk)
    return state


def _unstreamed(request: ModelRequest[Any]) -> ModelRequest[Any]:
    """The request with a model whose tokens no client sees: they may be those of a draft."""
    model = request.model
    tags = [*(model.tags or ()), TAG_NOSTREAM]
    quiet = model.model_copy(update={"tags": tags, "disable_streaming": True})
    return request.override(model=quiet)
