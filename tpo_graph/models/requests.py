"""How a server wants to be asked, found out from what it refuses, and remembered.

One prompt's samples are asked for in one request, with the system role, with temperature and top_p,
and not as a stream. Where a server refuses one of these, in whatever words, the request is made
once more without; if that works, later requests of the same model begin there.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, cast
from urllib.parse import urlsplit

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    message_chunk_to_message,
)
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables.config import RunnableConfig, ensure_config

from tpo_graph.concurrency.outages import reached
from tpo_graph.context import Sampling
from tpo_graph.errors import TPOError
from tpo_graph.models.failures import fewer_samples, refuses_both, server_text, status_of
from tpo_graph.models.load import model_name
from tpo_graph.models.loops import Handle, Manners
from tpo_graph.usage import Usage, no_usage, spend

_log = logging.getLogger(__name__)

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
_ABOUT_ROLES = re.compile(
    r"\bsystem\b|developer (?:instruction|message)|\broles?\b|alternat|chat.?template|jinja",
    re.IGNORECASE,
)
_ABOUT_STREAMING = re.compile(r"\bstream|streaming", re.IGNORECASE)


@dataclass
class Answers:
    """What came of asking for some samples."""

    generations: list[ChatGeneration]
    failure: Exception | None = None
    """What one of the requests raised, if any did."""


@dataclass
class Call:
    """The requests for samples of one prompt; each says what it consumed as it ends (`spend`)."""

    held: Handle
    messages: list[BaseMessage]
    sampling: Sampling
    stage: str
    metadata: dict[str, Any]

    def __post_init__(self) -> None:
        self._greedy = self.sampling["temperature"] == 0

    async def ask(self, count: int, first: int) -> Answers:
        """`count` generations, the samples number `first` and on of this prompt."""
        most = min(count, self.held.most(self._greedy))
        if most < count:
            return await self._ask_parts(count, first, most)
        try:
            result = await self._request(count, first)
        except Exception as error:
            fewer = fewer_samples(error, count) if self.held.takes_n else None
            if fewer is None:
                return Answers([], error)
            return await self._ask_fewer(count, first, fewer)
        generations = result.generations
        if not 0 < len(generations) < count:
            return Answers(generations)
        rest = await self._ask_parts(count - len(generations), first + len(generations), 1)
        return Answers([*generations, *rest.generations], rest.failure)

    async def _ask_fewer(self, count: int, first: int, most: int) -> Answers:
        """Ask after a refusal that may have been about the number of samples."""
        learned = dict(self.held.most_samples)
        self.held.most_samples[self._greedy] = most
        try:
            result = await self._request(most, first)
        except Exception as error:
            self.held.most_samples = learned
            fewer = fewer_samples(error, most) if most > 1 else None
            if fewer is None:
                return Answers([], error)
            return await self._ask_fewer(count, first, fewer)
        got = result.generations[:most]
        rest = await self._ask_parts(count - len(got), first + len(got), most)
        return Answers([*got, *rest.generations], rest.failure)

    async def _ask_parts(self, count: int, first: int, most: int) -> Answers:
        """Requests side by side, each for `most` samples or what is left of them."""
        parts = [(min(most, count - start), first + start) for start in range(0, count, most)]
        results = await asyncio.gather(
            *(self._request(size, index) for size, index in parts), return_exceptions=True
        )
        answers = Answers([])
        for (size, _), result in zip(parts, results, strict=True):
            if isinstance(result, ChatResult):
                answers.generations += result.generations[:size]
            elif isinstance(result, Exception):
                answers.failure = result
            else:
                raise result
        return answers

    async def _request(self, count: int, index: int) -> ChatResult:
        """One request, in the way that this server takes it."""
        manners, server = self.held.manners, _server(self.held.model)
        while True:
            try:
                # A stream merges the samples of one request into one.
                size = 1 if manners.only_streams else count
                result = await reached(server, partial(self._send, size, index, manners))
            except Exception as error:
                other = self._otherwise(error, manners)
                if other is None:
                    _spend_lost(error)
                    raise
                manners = other
                continue
            spend(_usage(result))
            self._learn(manners)
            return result

    def _otherwise(self, error: Exception, manners: Manners) -> Manners | None:
        """What to try after a refusal; None where nothing that is known would help."""
        status, text = status_of(error), server_text(error)
        local = isinstance(error, TPOError | ValueError)
        if not (status in (400, 404, 422, 500) or (status is None and local)):
            return None
        if (
            manners.takes_both
            and self.sampling["temperature"] is not None
            and self.sampling["top_p"] is not None
            and refuses_both(text)
        ):
            return replace(manners, takes_both=False)
        if not manners.only_streams and _ABOUT_STREAMING.search(text):
            return replace(manners, only_streams=True)
        has_system = any(isinstance(message, SystemMessage) for message in self.messages)
        if manners.takes_system and has_system and _ABOUT_ROLES.search(text):
            return replace(manners, takes_system=False)
        return None

    def _learn(self, manners: Manners) -> None:
        held = self.held
        if manners == held.manners:
            return
        if held.manners.takes_both and not manners.takes_both:
            _log.warning(
                "%r takes temperature or top_p, not both: top_p is left out from now on. "
                "Leave one out yourself (top_p=None, --top-p none) to choose which.",
                model_name(held.model),
            )
        held.manners = Manners(
            takes_system=held.manners.takes_system and manners.takes_system,
            takes_both=held.manners.takes_both and manners.takes_both,
            only_streams=held.manners.only_streams or manners.only_streams,
        )

    async def _send(self, count: int, index: int, manners: Manners) -> ChatResult:
        model = self._model(count, index, manners)
        messages = self.messages if manners.takes_system else without_system(self.messages)
        config = ensure_config()
        how: dict[str, Any] = {
            "callbacks": config.get("callbacks"),
            "tags": [*config.get("tags", ()), _NOSTREAM, f"tpo:{self.stage}"],
            "metadata": {**config.get("metadata", {}), **self.metadata},
            "run_name": self.stage,
        }
        if manners.only_streams:
            whole: Any = None
            async for chunk in model.astream(messages, cast("RunnableConfig", how)):
                whole = chunk if whole is None else whole + chunk
            if whole is None:
                return ChatResult(generations=[])
            message = cast(AIMessage, message_chunk_to_message(whole))
            return ChatResult(generations=[ChatGeneration(message=message)])
        result = await model.agenerate([messages], **how)
        generations = cast("list[ChatGeneration]", result.generations[0])
        return ChatResult(generations=generations, llm_output=result.llm_output)

    def _model(self, count: int, index: int, manners: Manners) -> BaseChatModel:
        """The model with this request's parameters."""
        parameters: dict[str, Any] = {**self.sampling}
        if parameters["seed"] is not None:
            parameters["seed"] = (parameters["seed"] + index * _SEED_STRIDE) % 2**31
        model = self.held.model
        fields = _declared(type(model))
        if self.held.most(self._greedy) > 1:
            parameters["n"] = count
        changes: dict[str, Any] = {
            fields[name]: value
            for name, value in parameters.items()
            if value is not None and name in fields
        }
        if self.held.takes_n and "n" not in changes:
            changes["n"] = type(model).model_fields["n"].default
        if not manners.takes_both and parameters["temperature"] is not None and "top_p" in fields:
            changes[fields["top_p"]] = None
        if manners.only_streams:
            changes["disable_streaming"] = False
            for name in {"streaming", "stream_usage"} & type(model).model_fields.keys():
                changes[name] = True
            if "stream_chunk_timeout" in type(model).model_fields:
                changes["stream_chunk_timeout"] = None  # the request's own timeout holds
        return self.held.with_fields(changes)


def without_system(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The messages without the system role: its text stands before the next user's text."""
    found: list[BaseMessage] = []
    waiting: list[str] = []
    for message in messages:
        if isinstance(message, SystemMessage):
            waiting.append(str(message.text))
        elif waiting and isinstance(message, HumanMessage):
            before = "\n\n".join(waiting)
            waiting = []
            content: Any = message.content
            if isinstance(content, str):
                content = f"{before}\n\n{content}"
            else:
                content = [{"type": "text", "text": before}, *content]
            found.append(message.model_copy(update={"content": content}))
        else:
            found.append(message)
    return [*found, HumanMessage("\n\n".join(waiting))] if waiting else found


def _server(model: BaseChatModel) -> str:
    """Which server a model is asked at, as far as the model says; without what may be secret."""
    address = urlsplit(str(getattr(model, "openai_api_base", None) or ""))
    place = f" at {address.netloc.rpartition('@')[2]}" if address.netloc else ""
    return f"{model_name(model)}{place}"


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


def is_garbled(failure: Exception) -> bool:
    """Whether the server replied with something that is no completion, as opposed to an error."""
    return isinstance(failure, ValueError | KeyError | TypeError) and status_of(failure) is None


def _spend_lost(failure: Exception) -> None:
    """What a request that raised consumed: a garbled reply was made, and is unusable."""
    if is_garbled(failure) and not isinstance(failure, TPOError):
        spend({**no_usage(), "requests": 1, "unusable": 1})
