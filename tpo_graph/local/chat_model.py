"""`ChatLocal`: a causal language model in this process, through transformers, as a chat model.

For small models and tests. n replies are written together, but calls run one after the other: for
anything large, or many queries at once, run a vLLM server and use "openai:" with its address.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from queue import SimpleQueue
from threading import Event
from typing import Any, NamedTuple

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult, LLMResult
from pydantic import BaseModel, Field, PrivateAttr

from tpo_graph.conversation import turns
from tpo_graph.errors import PolicyError
from tpo_graph.local import weights
from tpo_graph.local.reply import Reply
from tpo_graph.local.template import ChatTemplate
from tpo_graph.local.worker import Worker

_NO_LIMIT = 4096  # tokens of a reply, for a model that names no context length


def load_local_chat_model(
    source: str,
    *,
    trust_remote_code: bool = False,
    dtype: str | None = None,
    device: str | None = None,
) -> "ChatLocal":
    """A chat model of the weights at `source`, which are loaded once per process.

    Args:
        source: folder that holds model and tokenizer, or hub id.
        trust_remote_code: run Python code that comes with the model.
        dtype: torch dtype name; None takes that of the weights.
        device: torch device; None takes an accelerator if there is one, else the CPU.

    Raises:
        ConfigurationError: no such model, no safetensors, no chat template, or torch is missing.
    """
    # Loaded here first: pydantic would bury the error in a ValidationError.
    _loaded(source, weights.Options(trust_remote_code, dtype, device))
    return ChatLocal(model=source, trust_remote_code=trust_remote_code, dtype=dtype, device=device)


class _Engine(NamedTuple):
    """What every ChatLocal of the same weights shares."""

    model: Any
    tokenizer: Any
    template: ChatTemplate
    worker: Worker
    max_positions: int | None
    ends: frozenset[int]


def _loaded(source: str, options: weights.Options) -> _Engine:
    with weights.LOADING:
        return _load(weights.resolve(source), options)


@cache
def _load(source: str, options: weights.Options) -> _Engine:
    model, tokenizer, max_positions = weights.load(source, "AutoModelForCausalLM", options)
    configured: int | list[int] | None = model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return _Engine(
        model=model,
        tokenizer=tokenizer,
        template=ChatTemplate(tokenizer, source, PolicyError),
        worker=Worker(f"policy {source}"),
        max_positions=max_positions,
        ends=frozenset(end for end in (*ends, tokenizer.eos_token_id) if end is not None),
    )


class _Request(BaseModel):
    """One call's parameters: the model's fields with the call's own keyword arguments on top."""

    n: int = Field(ge=1)
    temperature: float | None = Field(ge=0)
    top_p: float | None = Field(gt=0, le=1)
    max_tokens: int | None = Field(ge=1)
    seed: int | None
    stop: list[str] | None


class ChatLocal(BaseChatModel):
    """A causal LM in this process as a LangChain chat model; see `load_local_chat_model`.

    Fields are defaults of a call; `temperature`, `top_p`, `max_tokens`, `seed`, `n` and `stop` may
    be given to each call as well. A seeded call is repeatable with the same n, whatever else runs.
    """

    model: str
    """Folder that holds model and tokenizer, or hub id."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""
    dtype: str | None = None
    """torch dtype name; None takes that of the weights."""
    device: str | None = None
    """torch device; None takes an accelerator if there is one, else the CPU."""
    n: int = Field(default=1, ge=1)
    """Replies per call, written together."""
    temperature: float | None = Field(default=None, ge=0)
    """None or 0 is greedy."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Nucleus sampling; None is off."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of a reply; None is what the model's context leaves."""
    seed: int | None = None
    """None draws anew at each call."""
    stop: list[str] | None = None
    """Strings that end a reply, and are not part of it."""

    _engine: _Engine = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Load the weights, or take those already loaded."""
        super().model_post_init(context)
        options = weights.Options(self.trust_remote_code, self.dtype, self.device)
        self._engine = _loaded(self.model, options)

    @property
    def _llm_type(self) -> str:
        return "tpo-local"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "dtype": self.dtype, **self._request(None, {}).model_dump()}

    def _combine_llm_outputs(self, llm_outputs: list[dict[str, Any] | None]) -> dict[str, Any]:
        usages = [output["token_usage"] for output in llm_outputs if output]
        total = {name: sum(usage[name] for usage in usages) for name in usages[0]} if usages else {}
        return {"token_usage": total, "model_name": self.model}

    def generate(
        self, messages: list[list[BaseMessage]], *arguments: Any, **options: Any
    ) -> LLMResult:
        """See `BaseChatModel.generate`."""
        return super().generate(messages, *arguments, **self._unmerged(options))

    async def agenerate(
        self, messages: list[list[BaseMessage]], *arguments: Any, **options: Any
    ) -> LLMResult:
        """See `BaseChatModel.agenerate`."""
        return await super().agenerate(messages, *arguments, **self._unmerged(options))

    def _unmerged(self, options: dict[str, Any]) -> dict[str, Any]:
        # A stream carries one reply: a handler that asks for tokens must not merge n of them.
        return {**options, "stream": False} if options.get("n", self.n) > 1 else options

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        request = self._request(stop, kwargs)
        return self._engine.worker.run(partial(self._complete, messages, request))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        request = self._request(stop, kwargs)
        return await self._engine.worker.arun(partial(self._complete, messages, request))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        request = self._request(stop, {**kwargs, "n": 1})
        reply = Reply(self._engine.tokenizer, request.stop)
        texts: SimpleQueue[str | None] = SimpleQueue()
        closed = Event()

        def step() -> bool:
            texts.put(reply.settled())
            return closed.is_set()

        def write(_: Event) -> list[int]:
            try:
                return self._write(messages, request, [reply], step)
            finally:
                texts.put(None)

        writing = self._engine.worker.start(write)
        sent = 0
        try:
            while (settled := texts.get()) is not None:
                if len(settled) > sent:
                    yield ChatGenerationChunk(message=AIMessageChunk(content=settled[sent:]))
                    sent = len(settled)
        finally:
            closed.set()  # a reader that leaves ends the call
        prompt = writing.result()
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                content=reply.text()[sent:],
                chunk_position="last",
                usage_metadata=_usage_metadata(len(prompt), reply.drawn),
                response_metadata=self._metadata(reply),
            ),
            generation_info={"finish_reason": reply.finish},
        )

    def _request(self, stop: list[str] | None, kwargs: dict[str, Any]) -> _Request:
        fields = _Request.model_fields
        given = {name: kwargs[name] for name in fields if name in kwargs}
        if stop is not None:
            given["stop"] = stop
        return _Request(**{name: getattr(self, name) for name in fields} | given)

    def _complete(
        self, messages: list[BaseMessage], request: _Request, cancelled: Event
    ) -> ChatResult:
        replies = [Reply(self._engine.tokenizer, request.stop) for _ in range(request.n)]
        prompt = self._write(messages, request, replies, cancelled.is_set)
        drawn = sum(reply.drawn for reply in replies)
        generations = [
            ChatGeneration(
                message=AIMessage(
                    content=reply.text(),
                    response_metadata=self._metadata(reply),
                    # The call's usage once: a reader that adds up messages counts it once too.
                    usage_metadata=_usage_metadata(len(prompt), drawn) if i == 0 else None,
                ),
                generation_info={"finish_reason": reply.finish},
            )
            for i, reply in enumerate(replies)
        ]
        token_usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": drawn,
            "total_tokens": len(prompt) + drawn,
        }
        return ChatResult(
            generations=generations,
            llm_output={"token_usage": token_usage, "model_name": self.model},
        )

    def _write(
        self,
        messages: list[BaseMessage],
        request: _Request,
        replies: list[Reply],
        stopped: Callable[[], bool],
    ) -> list[int]:
        """Fill the replies; the prompt's tokens. `stopped` is asked after each step."""
        from tpo_graph.local.sampling import Sampling, sample_replies

        prompt = self._engine.template.encode(turns(messages), reply=True)
        sampling = Sampling(
            temperature=request.temperature,
            top_p=request.top_p,
            max_tokens=self._room(len(prompt), request.max_tokens),
            seed=request.seed,
        )
        engine = self._engine
        sample_replies(engine.model, prompt, replies, sampling, engine.ends, stopped)
        return prompt

    def _room(self, prompt: int, max_tokens: int | None) -> int:
        limit = self._engine.max_positions
        if limit is None:
            return max_tokens or _NO_LIMIT
        if prompt >= limit:
            raise PolicyError(
                f"the prompt has {prompt} tokens, {prompt - limit + 1} more than {self.model!r} "
                f"can take and still answer (its context is {limit}). Shorten the conversation, "
                "lower max_tokens of what it quotes, or use a model with a longer context."
            ) from ContextOverflowError(f"{prompt} tokens")  # as a server's refusal is read
        return min(max_tokens or limit, limit - prompt)

    def _metadata(self, reply: Reply) -> dict[str, Any]:
        return {"model_name": self.model, "finish_reason": reply.finish}


def _usage_metadata(prompt: int, drawn: int) -> UsageMetadata:
    return UsageMetadata(input_tokens=prompt, output_tokens=drawn, total_tokens=prompt + drawn)
