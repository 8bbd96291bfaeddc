"""n samples of one prompt from any LangChain chat model: the only place that calls a model.

Nodes give messages and `Sampling`; they get usable texts and what those cost. Models with an `n`
field return all samples of one request, others are called n times at once. What is missing or
unusable is asked for once more, then done without.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, cast

from langchain_core.callbacks import AsyncCallbackManager, Callbacks
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables.config import ensure_config

from tpo_graph.context import Sampling
from tpo_graph.errors import TPOError
from tpo_graph.models.failures import policy_error, refused_option
from tpo_graph.models.load import model_name
from tpo_graph.models.loops import Handle, handle
from tpo_graph.models.replies import Unusable, has_bare_reasoning, read_reply
from tpo_graph.usage import Usage, add_usage, no_usage

_NOSTREAM = "nostream"
"""LangGraph's tag for calls whose tokens a host's message stream must not show."""
_SEED_STRIDE = 0x9E3779B1
"""Far apart, because servers give the n samples of one request seed, seed + 1, ..."""
_FIELDS = {
    "temperature": ("temperature",),
    "top_p": ("top_p",),
    "max_tokens": ("max_tokens", "max_completion_tokens", "max_output_tokens", "num_predict"),
    "seed": ("seed",),
    "n": ("n",),
}
_FINISHES = {
    **dict.fromkeys(("stop", "end_turn", "stop_sequence", "eos_token", "complete"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length"), "length"),
    "model_context_window_exceeded": "length",
}
"""Providers' words for the two finish reasons that matter here."""


@dataclass(frozen=True)
class Generated:
    """Samples of one prompt."""

    texts: list[str]
    """Usable texts in the order they came; fewer than asked for when replies stayed unusable."""
    usage: Usage
    finish_reasons: list[str | None] = field(default_factory=list[str | None])
    """Why each text ends: "stop", "length" when the token limit cut it, a provider's other word, or
    None when the provider says nothing. A text that its output tag closes was not cut."""
    unusable: list[Unusable] = field(default_factory=list[Unusable])
    """The replies that held no text, in the order they came."""
    salvaged: int = 0
    """How many texts were used although their output tag is missing or was not closed."""


async def generate(
    model: BaseChatModel,
    messages: Sequence[BaseMessage],
    n: int,
    sampling: Sampling,
    *,
    tag: str | None = None,
    stage: str = "sample",
    metadata: Mapping[str, Any] | None = None,
) -> Generated:
    """Draw `n` samples of one prompt.

    Callbacks and tags are inherited from the runnable that is running (a graph's node), so traces
    show the calls beneath it; their tokens stay out of the host's message stream.

    Args:
        model: any chat model. Parameters that its class does not declare are not sent.
        messages: the prompt.
        n: how many samples, at least 1.
        sampling: parameters; None leaves one to the model.
        tag: when given, a reply's text is what stands between `<tag>` and `</tag>`. Without the
            tag a reply is unusable, unless it is clearly the text alone (`replies.read_reply`).
        stage: the node that asks: the run's name in traces, and in errors.
        metadata: more metadata for traces.

    Returns:
        At most `n` texts, none at all when every reply was unusable twice.

    Raises:
        PolicyError: the model failed, after its client's own retries, and nothing usable came.
    """
    started = time.perf_counter()
    held = await handle(model)
    call = _Call(held, list(messages), sampling, stage, dict(metadata or {}))
    texts: list[str] = []
    finish_reasons: list[str | None] = []
    unusable: list[Unusable] = []
    salvaged = 0
    usage = no_usage()
    asked = 0
    failure: Exception | None = None
    for _ in range(2):
        missing = n - len(texts)
        answers = await call.ask(missing, asked)
        asked += missing
        usage = add_usage(usage, answers.usage)
        failure = answers.failure
        received = answers.generations[:missing]
        held.bare_reasoning |= any(has_bare_reasoning(each.message) for each in received)
        for generation in received:
            finish = _finish_reason(generation)
            reply = read_reply(generation.message, tag, finish, bare_reasoning=held.bare_reasoning)
            if isinstance(reply, Unusable):
                usage["unusable"] += 1
                unusable.append(reply)
                continue
            finish = "stop" if reply.closed and finish == "length" else finish
            usage["truncated"] += finish == "length"
            salvaged += reply.salvaged
            texts.append(reply.text)
            finish_reasons.append(finish)
        if len(texts) == n or (failure is not None and not texts and not _garbled(failure)):
            break
    if failure is not None and not texts:
        if isinstance(failure, TPOError):
            raise failure
        raise policy_error(failure, model, model_name(model), stage) from failure
    usage["seconds"] = round(time.perf_counter() - started, 6)
    return Generated(texts, usage, finish_reasons, unusable, salvaged)


@dataclass
class _Answers:
    generations: list[ChatGeneration]
    usage: Usage
    failure: Exception | None
    """What one of the calls raised, if any did."""


@dataclass
class _Call:
    held: Handle
    messages: list[BaseMessage]
    sampling: Sampling
    stage: str
    metadata: dict[str, Any]

    def __post_init__(self) -> None:
        self._plain = all(isinstance(message.content, str) for message in self.messages)

    async def ask(self, count: int, first: int) -> _Answers:
        """`count` generations, the samples number `first` and on of this prompt."""
        if not self.held.takes_n:
            return await self._ask_each(count, first)
        try:
            result = await self._request(count, first)
        except Exception as error:
            if count > 1 and refused_option(error) == "n":
                self.held.takes_n = False
                return await self._ask_each(count, first)
            return _Answers([], _lost(error), error)
        generations, usage = result.generations, _usage(result)
        if 0 < len(generations) < count:
            rest = await self._ask_each(count - len(generations), first + len(generations))
            usage = add_usage(usage, rest.usage)
            return _Answers([*generations, *rest.generations], usage, rest.failure)
        return _Answers(generations, usage, None)

    async def _ask_each(self, count: int, first: int) -> _Answers:
        results = await asyncio.gather(
            *(self._request(1, first + index) for index in range(count)), return_exceptions=True
        )
        answers = _Answers([], no_usage(), None)
        for result in results:
            if isinstance(result, ChatResult):
                answers.generations += result.generations[:1]
                answers.usage = add_usage(answers.usage, _usage(result))
            elif isinstance(result, Exception):
                answers.failure = result
                answers.usage = add_usage(answers.usage, _lost(result))
            else:
                raise result
        return answers

    async def _request(self, count: int, index: int) -> ChatResult:
        parameters: dict[str, Any] = {**self.sampling}
        if parameters["seed"] is not None:
            parameters["seed"] = (parameters["seed"] + index * _SEED_STRIDE) % 2**31
        if self.held.takes_n:
            parameters["n"] = count
        fields = _declared(type(self.held.model))
        changes = {
            fields[name]: value
            for name, value in parameters.items()
            if value is not None and name in fields
        }
        model = self.held.model.model_copy(update=changes) if changes else self.held.model
        config = ensure_config()
        callbacks = config.get("callbacks")
        if self._plain and not _heard(model, callbacks):
            # What `agenerate` adds to this is for listeners, and takes as long as the call itself.
            return await model._agenerate(self.messages)  # pyright: ignore[reportPrivateUsage]
        result = await model.agenerate(
            [self.messages],
            callbacks=callbacks,
            tags=[*config.get("tags", ()), _NOSTREAM, f"tpo:{self.stage}"],
            metadata={**config.get("metadata", {}), **self.metadata},
            run_name=self.stage,
        )
        generations = cast("list[ChatGeneration]", result.generations[0])
        return ChatResult(generations=generations, llm_output=result.llm_output)


@lru_cache(maxsize=256)
def _declared(model_class: type[BaseChatModel]) -> dict[str, str]:
    """Sampling parameter -> the field of the class that holds it, for those it declares."""
    fields = model_class.model_fields
    aliases = {field.alias: name for name, field in fields.items() if field.alias}
    found: dict[str, str] = {}
    for parameter, names in _FIELDS.items():
        for name in names:
            field = name if name in fields else aliases.get(name)
            if field is not None:
                found[parameter] = field
                break
    return found


def _heard(model: BaseChatModel, callbacks: Callbacks) -> bool:
    """Whether anything listens to or slows down the model's calls: tracers, handlers, limits."""
    manager = AsyncCallbackManager.configure(callbacks, model.callbacks, model.verbose)
    return bool(manager.handlers) or model.rate_limiter is not None


def _usage(result: ChatResult) -> Usage:
    """What one request consumed; providers that repeat it on every message are read once."""
    usage = no_usage()
    usage["requests"] = 1
    reported: dict[str, Any] = (result.llm_output or {}).get("token_usage") or {}
    if reported:
        details: dict[str, Any] = reported.get("prompt_tokens_details") or {}
        usage["prompt_tokens"] = _count(reported.get("prompt_tokens"))
        usage["completion_tokens"] = _count(reported.get("completion_tokens"))
        usage["cached_tokens"] = _count(details.get("cached_tokens"))
        return usage
    for generation in result.generations[:1]:
        message = generation.message
        if isinstance(message, AIMessage) and message.usage_metadata:
            counts = message.usage_metadata
            usage["prompt_tokens"] = counts["input_tokens"]
            usage["completion_tokens"] = counts["output_tokens"]
            cached = counts.get("input_token_details", {}).get("cache_read")
            usage["cached_tokens"] = _count(cached)
    return usage


def _count(value: object) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _finish_reason(generation: ChatGeneration) -> str | None:
    """In OpenAI's words where there are some; other words of the provider's as they are."""
    info = {**generation.message.response_metadata, **(generation.generation_info or {})}
    names = ("finish_reason", "stop_reason", "done_reason", "stopReason")
    said = next((found for name in names if isinstance(found := info.get(name), str)), None)
    return None if said is None else _FINISHES.get(said.lower(), said)


def _garbled(failure: Exception) -> bool:
    """Whether the server replied with something that is no completion, as opposed to an error."""
    return isinstance(failure, ValueError | KeyError | TypeError)


def _lost(failure: Exception) -> Usage:
    """The usage of a request that raised: a garbled reply was made, and is unusable."""
    garbled = int(_garbled(failure))
    return {**no_usage(), "requests": garbled, "unusable": garbled}
