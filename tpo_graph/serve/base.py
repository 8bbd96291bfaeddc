"""The base model behind the server, asked directly: passed through, or for a turn with tools.

Where it is reached by OpenAI's own protocol, requests and replies pass through as they are. Any
other chat model of LangChain is asked in LangChain's words.
"""

import json
import time
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import Any, cast
from uuid import uuid4

import httpx2
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk

from tpo_graph.conversation import clean, converted
from tpo_graph.errors import ConfigurationError, PolicyError
from tpo_graph.models.failures import fewer_samples, policy_error, refuses_both, server_text
from tpo_graph.models.loops import handle
from tpo_graph.models.sampling import finish_reason_of
from tpo_graph.rewards.together import together
from tpo_graph.serve.refusals import Refusal, invalid

Completion = dict[str, Any]
"""A chat completion, or a chunk of one, as OpenAI's API writes it."""

_PASSED = (
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "tools",
    "tool_choice", "parallel_tool_calls", "response_format",
)  # fmt: skip


@dataclass(frozen=True)
class Base:
    """The base model as clients may ask it.

    Args:
        model: the chat model.
        name: what clients call it.
    """

    model: BaseChatModel
    name: str

    @property
    def calls_tools(self) -> bool:
        """Whether the model's class can be given tools."""
        return type(self.model).bind_tools is not BaseChatModel.bind_tools

    async def complete(self, body: Mapping[str, Any]) -> Completion:
        """One completion, whole.

        Raises:
            PolicyError: the model failed.
            Refusal: the request asks for what the model cannot do.
        """
        with self._explained():
            client = await self._client()
            if client is None:
                return clean(await self._in_words(body))
            sent = {**self._upstream(body), "stream": False}
            sent.pop("stream_options", None)
            response = await client.post("/chat/completions", cast_to=httpx2.Response, body=sent)
            return clean({**_completion(json.loads(response.content)), "model": self.name})

    async def several(self, body: Mapping[str, Any], n: int) -> Completion:
        """One completion with up to `n` choices, asked for in one request where that is possible.

        A model that takes temperature or top_p, but not both, gets the temperature.

        Raises:
            PolicyError, Refusal: as `complete`.
        """
        both = body.get("temperature") is not None and body.get("top_p") is not None
        alone = {name: value for name, value in body.items() if name != "top_p"}
        if both and not (await handle(self.model)).manners.takes_both:
            return await self._several(alone, n)
        try:
            return await self._several(body, n)
        except PolicyError as error:
            if not both or not refuses_both(server_text(error.__cause__ or error)):
                raise
            return await self._several(alone, n)

    async def _several(self, body: Mapping[str, Any], n: int) -> Completion:
        many = n > 1 and await self._client() is not None
        first = await self._as_many_as_it_gives(body, n) if many else await self.complete(body)
        missing = n - len(first["choices"])
        seed = body.get("seed")
        seeds: list[dict[str, Any]] = [
            {} if seed is None else {"seed": seed + more} for more in range(1, missing + 1)
        ]
        rest = await together(self.complete({**body, **each}) for each in seeds)
        choices = [choice for made in (first, *rest) for choice in made["choices"]]
        return {
            **first,
            "choices": [{**choice, "index": at} for at, choice in enumerate(choices)],
            "usage": reduce(_sum, [made.get("usage") or {} for made in (first, *rest)]),
        }

    async def _as_many_as_it_gives(self, body: Mapping[str, Any], n: int) -> Completion:
        try:
            return await self.complete({**body, "n": n})
        except PolicyError as error:
            if fewer_samples(error.__cause__ or error, n) is None:
                raise
            return await self.complete(body)

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[Completion]:
        """The same in chunks, as they come.

        Raises:
            PolicyError, Refusal: as `complete`.
        """
        with self._explained():
            client = await self._client()
            if client is None:
                async for chunk in self._in_words_as_they_come(body):
                    yield clean(chunk)
                return
            sent = {**self._upstream(body), "stream": True}
            known = {name: sent.pop(name) for name in ("messages", "model", "stream")}
            async with await client.chat.completions.create(**known, extra_body=sent) as chunks:
                if "json" in chunks.response.headers.get("content-type", ""):
                    made = _completion(json.loads(await chunks.response.aread()))
                    for told in self._in_chunks(made, body):
                        yield clean(told)
                    return
                empty = True
                async for chunk in chunks:
                    empty = False
                    told = chunk.model_dump(mode="json", exclude_unset=True)
                    yield clean({**told, "model": self.name})
                if empty:
                    raise ValueError("the reply to a request for a stream is no stream, or empty")

    def _in_chunks(self, made: Completion, body: Mapping[str, Any]) -> Generator[Completion]:
        """A whole completion, as a server gives it that cannot stream, in the form of a stream."""
        kept = {name: made[name] for name in ("id", "created") if name in made}
        head = {**self._head("chat.completion.chunk"), **kept}
        for choice in made["choices"]:
            at = {"index": choice.get("index", 0)}
            delta = {name: value for name, value in choice["message"].items() if value is not None}
            if calls := delta.get("tool_calls"):
                delta["tool_calls"] = [{**call, "index": n} for n, call in enumerate(calls)]
            yield {**head, "choices": [{**_choice(delta), **at}]}
            yield {**head, "choices": [{**_choice({}, choice.get("finish_reason")), **at}]}
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {**head, "choices": [], "usage": made.get("usage")}

    @contextmanager
    def _explained(self) -> Generator[None]:
        """Whatever the model's client raises, as an error without the model's keys."""
        try:
            yield
        except (PolicyError, Refusal):
            raise
        except Exception as error:
            raise policy_error(error, self.model, self.name, "sample") from error

    async def _client(self) -> Any:
        """The openai client of the model, if it is reached by one."""
        return getattr((await handle(self.model)).model, "root_async_client", None)

    def _upstream(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body as the model's server is to get it."""
        own: dict[str, Any] = getattr(self.model, "extra_body", None) or {}
        return {**body, **own, "model": getattr(self.model, "model_name", self.name)}

    async def _in_words(self, body: Mapping[str, Any]) -> Completion:
        message = await self._ready(await self._quiet(), body).ainvoke(_messages(body))
        choice = {
            "index": 0,
            "message": {"role": "assistant", **_content(message)},
            "finish_reason": _finish(message),
        }
        return {**self._head("chat.completion"), "choices": [choice], "usage": _usage(message)}

    async def _in_words_as_they_come(self, body: Mapping[str, Any]) -> AsyncGenerator[Completion]:
        head = self._head("chat.completion.chunk")
        model = (await self._quiet()).model_copy(update={"disable_streaming": False})
        whole: AIMessageChunk | None = None
        async for part in self._ready(model, body).astream(_messages(body)):
            chunk = cast(AIMessageChunk, part)
            whole = chunk if whole is None else cast(AIMessageChunk, whole + chunk)
            delta = {"role": "assistant", "content": str(chunk.text)}
            if chunk.text:
                yield {**head, "choices": [_choice(delta)]}
        ended = whole or AIMessageChunk(content="")
        calls = _content(ended).get("tool_calls")
        if calls:
            numbered = [{**call, "index": at} for at, call in enumerate(calls)]
            yield {**head, "choices": [_choice({"tool_calls": numbered})]}
        yield {**head, "choices": [_choice({}, _finish(ended))]}
        if (body.get("stream_options") or {}).get("include_usage"):
            yield {**head, "choices": [], "usage": _usage(ended)}

    async def _quiet(self) -> BaseChatModel:
        return (await handle(self.model)).model

    def _ready(self, model: BaseChatModel, body: Mapping[str, Any]) -> Any:
        """The model with what the request says, as far as its class takes it."""
        if (body.get("n") or 1) > 1:
            told = f"n={body['n']}: {self.name!r} gives one choice per request. Ask several times."
            raise invalid(told, "n")
        fields = type(model).model_fields
        given = {name: body[name] for name in _PASSED if body.get(name) is not None}
        most = given.pop("max_completion_tokens", given.get("max_tokens"))
        if most is not None:
            given["max_tokens"] = most
        tools = given.pop("tools", None)
        choice = given.pop("tool_choice", None)
        stop = given.pop("stop", None)
        options = {name: value for name, value in given.items() if name in fields}
        if stop is not None:
            options["stop"] = [stop] if isinstance(stop, str) else stop
        if tools:
            return model.bind_tools(tools, tool_choice=choice).bind(**options)
        return model.bind(**options)

    def _head(self, kind: str) -> Completion:
        return {
            "id": f"chatcmpl-{uuid4().hex}",
            "object": kind,
            "created": int(time.time()),
            "model": self.name,
        }


def _completion(made: Any) -> Completion:
    """What the model's server replied with.

    Raises:
        ValueError: it is no chat completion, or an empty one.
    """
    try:
        if made["choices"] and all(isinstance(each["message"], dict) for each in made["choices"]):
            return made
    except (TypeError, KeyError):
        pass
    raise ValueError(f"the reply is no chat completion: {made!r:.200}")


def _sum(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    counted = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {**one, **{name: (one.get(name) or 0) + (other.get(name) or 0) for name in counted}}


def _messages(body: Mapping[str, Any]) -> Any:
    try:
        return converted(body["messages"])
    except ConfigurationError as error:
        raise invalid(str(error), "messages") from None


def _choice(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish}


def _content(message: AIMessage) -> dict[str, Any]:
    calls = [
        {
            "id": call["id"] or f"call_{uuid4().hex[:24]}",
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call["args"])},
        }
        for call in message.tool_calls
    ]
    text = str(message.text)
    return {"content": text or None, "tool_calls": calls} if calls else {"content": text}


def _finish(message: AIMessage) -> str:
    if message.tool_calls:
        return "tool_calls"
    return finish_reason_of(message) or "stop"


def _usage(message: AIMessage) -> dict[str, int]:
    counts = message.usage_metadata
    sent, written = (counts["input_tokens"], counts["output_tokens"]) if counts else (0, 0)
    return {
        "prompt_tokens": sent,
        "completion_tokens": written,
        "total_tokens": sent + written,
    }
