"""TPO as a LangChain chat model: it answers with the best response of a run.

It stands wherever a `BaseChatModel` does (chains, agents, `batch`). The graph runs inside one model
call, beneath it in traces, without checkpoints: like any model call it is repeated as a whole.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, cast
from uuid import uuid4

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, AnyMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig, RunnableLambda
from langchain_core.tools import BaseTool
from langgraph.constants import TAG_NOSTREAM

from tpo_graph.agents.answers import ended, is_final_answer, refined, stop_words
from tpo_graph.agents.callbacks import RUN, announced, beneath
from tpo_graph.agents.parts import ChatParts
from tpo_graph.agents.structured import FittingReward, StructuredForm, requested_form
from tpo_graph.concurrency.background import run_in_background
from tpo_graph.context import RunOptions
from tpo_graph.errors import (
    ConfigurationError,
    RewardInputError,
    nearest,
    refuse_unknown,
)
from tpo_graph.models.load import load_chat_model
from tpo_graph.models.load import model_name as name_of
from tpo_graph.models.loops import handle
from tpo_graph.prompts import PromptSet, load_prompts
from tpo_graph.redaction import redacted
from tpo_graph.rewards import as_reward_model
from tpo_graph.session.running import run_config
from tpo_graph.state import TPOInput, TPOState

_OF_A_TURN = {"tools", "tool_choice", "parallel_tool_calls", "response_format", "functions"}
"""What concerns the inner model's own turn alone: whether and how it calls tools."""


class ChatTPO(ChatParts):
    """A chat model that answers by Test-Time Preference Optimization of another one.

    With tools bound, the inner model's turn is asked for first: one that calls tools passes through
    untouched, a final answer becomes the first of the first samples; so does the inner model's own
    structured output (`with_structured_output`). An answer is streamed as one chunk, once it is
    known; progress (`tpo_graph.events`) reaches callbacks and `astream_events` as custom events
    named "tpo".

    Usage is the sum over all inner calls, each counted once. Any field of `TPOContext` can be set
    for one call: `chat.invoke(question, depth=0)`, `chat.bind(criteria="Be brief.")`.

    Raises:
        ConfigurationError: a setting, a name or a prompt set is wrong (when it is made).
    """

    @property
    def model_name(self) -> str:
        """The inner model's name, such as "openai:gpt-4o-mini"."""
        return name_of(self.model)

    @property
    def _llm_type(self) -> str:
        return "tpo"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """All that an answer depends on: LangChain's cache tells models apart by it."""
        critic = self.model if self.critic is None else load_chat_model(self.critic)
        prompts = (
            self.prompts if isinstance(self.prompts, PromptSet) else load_prompts(self.prompts)
        )
        return {
            "model_name": self.model_name,
            "model": _configuration(self.model),
            "critic": _configuration(critic),
            "reward_model": as_reward_model(self.reward_model).name,
            "prompts": prompts.digest,
            "settings": self._context({}).model_dump(mode="json"),
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_model_name"] = kwargs.get("model") or self.model_name
        return params

    def get_token_ids(self, text: str) -> list[int]:
        """As the inner model counts: LangChain's own count takes a tokenizer of another model."""
        if self.custom_get_token_ids is not None:
            return super().get_token_ids(text)
        return self.model.get_token_ids(text)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """As the inner model counts."""
        if self.custom_get_token_ids is not None:
            return super().get_num_tokens_from_messages(messages, tools)
        return self.model.get_num_tokens_from_messages(messages, tools)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """This model with tools, in the form that the inner model takes them.

        Raises:
            NotImplementedError: the inner model knows no tools.
        """
        try:
            bound = self.model.bind_tools(tools, tool_choice=tool_choice, **kwargs)
        except NotImplementedError as error:
            raise NotImplementedError(
                f"{self.model_name!r} knows no tools: give ChatTPO a model that does, or leave "
                "the tools out."
            ) from error
        if not isinstance(bound, RunnableBinding):
            raise ConfigurationError(
                f"{self.model_name!r} binds tools in a way of its own ({type(bound).__name__}), "
                "which cannot be passed on. Use TPOMiddleware in the agent instead."
            )
        return self.bind(**bound.kwargs)

    def with_structured_output(
        self, schema: dict[str, Any] | type, *, include_raw: bool = False, **kwargs: Any
    ) -> Runnable[LanguageModelInput, Any]:
        """The best answer that fits the schema, read (`tpo_graph.agents.structured`).

        The inner model's own structured answer is the first of the first samples; candidates that
        break the schema lose, and the reward model sees the JSON.

        Args:
            schema: a pydantic model, a dataclass, a TypedDict or a JSON schema.
            include_raw: answer with `raw`, `parsed` and `parsing_error`, as LangChain does.
            kwargs: fields of `TPOContext`, and how the inner model is asked, such as `method`.

        Raises:
            ConfigurationError: the schema is none of these.
        """
        form = StructuredForm(schema)
        own = {name: kwargs.pop(name) for name in RunOptions.model_fields if name in kwargs}
        self._context(own)
        judged = FittingReward(as_reward_model(self.reward_model), form)
        graph = self._made(judged)

        async def answer(given: LanguageModelInput, config: RunnableConfig, **options: Any) -> Any:
            context = self._context({**own, **options})
            messages = self._convert_input(given).to_messages()
            inner = (await handle(self.model)).model
            asks = inner.with_structured_output(schema, include_raw=True, **kwargs)
            quiet = [*config.get("tags", ()), TAG_NOSTREAM]
            first = cast("dict[str, Any]", await asks.ainvoke(messages, {**config, "tags": quiet}))
            parsed = first["parsed"]
            drafts = [] if parsed is None else [form.written(first["raw"], parsed)]
            asked = cast("list[AnyMessage]", form.asked(messages))
            run = {**run_config(str(uuid4()), context.depth), "callbacks": config.get("callbacks")}
            try:
                state = await graph.ainvoke(
                    TPOInput(messages=asked, drafts=drafts), cast("Any", run), context=context
                )
            except RewardInputError as error:  # nothing that was written fits
                told = first["parsing_error"] or error
                if not include_raw:
                    raise told from error
                return {**first, "parsing_error": told}
            raw = refined(first["raw"], cast(TPOState, state))
            found = form.read(raw.text)
            return {"raw": raw, "parsed": found, "parsing_error": None} if include_raw else found

        def answer_in_background(
            given: LanguageModelInput, config: RunnableConfig, **options: Any
        ) -> Any:
            return run_in_background(answer(given, config, **options))

        return RunnableLambda(answer_in_background, answer, name="structured")

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[AIMessageChunk]:
        """See `BaseChatModel.stream`."""
        yield from super().stream(input, announced(config), stop=stop, **kwargs)

    async def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[AIMessageChunk]:
        """See `BaseChatModel.astream`."""
        async for chunk in super().astream(input, announced(config), stop=stop, **kwargs):
            yield chunk

    def _should_stream(self, *, run_manager: Any = None, **kwargs: Any) -> bool:
        if run_manager is not None:
            RUN.set(run_manager)
        return super()._should_stream(run_manager=run_manager, **kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _result(self._in_background(messages, stop, run_manager, kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _result(await self._answer(messages, stop, beneath(run_manager), kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        yield _chunk(self._in_background(messages, stop, run_manager or RUN.get(), kwargs))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        callbacks = beneath(run_manager or RUN.get())
        yield _chunk(await self._answer(messages, stop, callbacks, kwargs))

    def _in_background(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        run_manager: CallbackManagerForLLMRun | None,
        kwargs: dict[str, Any],
    ) -> AIMessage:
        return run_in_background(self._answer(messages, stop, beneath(run_manager), kwargs))

    async def _answer(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None,
        callbacks: AsyncCallbackManager | None,
        given: dict[str, Any],
    ) -> AIMessage:
        """One turn: the inner model's own if it must stay as it is, else a run's answer."""
        options = {name: given.pop(name) for name in RunOptions.model_fields if name in given}
        context = self._context(options)
        stop = stop_words(stop or self.stop)
        if unknown := given.keys() - _OF_A_TURN:
            if any(nearest(name, RunOptions.model_fields, cutoff=0.75) for name in unknown):
                refuse_unknown(sorted(unknown), RunOptions.model_fields)
            raise ConfigurationError(
                f"{sorted(unknown)!r} would reach only one request of the run. What all requests "
                "need belongs to the inner model: ChatTPO(model=ChatOpenAI(extra_body=...))."
            )
        draft = None
        if given:
            config = RunnableConfig(callbacks=callbacks, tags=[TAG_NOSTREAM], run_name="draft")
            inner = (await handle(self.model)).model
            draft = await inner.ainvoke(messages, config, stop=stop or None, **given)
            if not is_final_answer(draft):
                return draft
        form = requested_form(given.get("response_format"))
        if draft is not None and form is None and "response_format" in given:
            return draft  # of a form that nothing could be held to

        graph, drafts = self._own_graph(), [] if draft is None else [str(draft.text)]
        if form is not None:
            graph = self._made(FittingReward(as_reward_model(self.reward_model), form))
            messages = form.asked(messages)
        run_id = str(uuid4())
        # Given here, it is the caller's message's id in every stream, with subgraphs too.
        answer_id = (draft and draft.id) or f"tpo-{run_id}"
        config = run_config(run_id, context.depth, answer_id=answer_id)
        state: Any = None
        try:
            async for mode, chunk in graph.astream(
                TPOInput(messages=cast("list[AnyMessage]", messages), drafts=drafts),
                {**config, "callbacks": callbacks},
                context=context,
                stream_mode=["custom", "values"],
            ):
                if mode == "values":
                    state = chunk
                elif callbacks is not None and callbacks.parent_run_id is not None:
                    await callbacks.on_custom_event("tpo", chunk, run_id=callbacks.parent_run_id)
        except RewardInputError:
            if form is None or draft is None:
                raise
            return draft  # nothing that was written fits: whoever asked for the form says so
        answer = refined(draft or AIMessage(""), cast(TPOState, state))
        answer = answer.model_copy(update={"id": answer_id})
        answer.response_metadata["model_name"] = f"tpo:{self.model_name}"
        return ended(answer, stop)


def _configuration(model: BaseChatModel) -> dict[str, Any]:
    """A model's class and the parameters that it says identify it, without keys."""
    return {"class": type(model).__qualname__, **redacted(model.asdict())}


def _result(message: AIMessage) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=message)])


def _chunk(message: AIMessage) -> ChatGenerationChunk:
    fields = message.model_dump(exclude={"type"})
    return ChatGenerationChunk(message=AIMessageChunk(**fields, chunk_position="last"))
