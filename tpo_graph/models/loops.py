"""One working copy of a chat model per event loop.

A pooled HTTP connection belongs to the event loop that opened it: used from another loop it fails
with "Event loop is closed" or hangs. So the models given to us are never called themselves: each
loop calls its own copies, and those of the OpenAI family share an HTTP client that is closed with
the loop.
"""

import asyncio
import json
import sys
import weakref
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any
from urllib.request import getproxies

from langchain_core.language_models import BaseChatModel

from tpo_graph.models.connection import clean_key
from tpo_graph.models.load import model_name


@dataclass(frozen=True)
class Manners:
    """What a server takes; all of it, until it has refused something."""

    takes_system: bool = True
    """The system role; else its text stands before the first user's text."""
    takes_both: bool = True
    """temperature together with top_p; else temperature alone."""
    only_streams: bool = False
    """It answers as a stream only."""


_COPIES = 64
"""Kept for each model; with a seed no two requests are alike."""


@dataclass
class Handle:
    """A chat model as one event loop uses it."""

    model: BaseChatModel
    """The copy to call: it never streams, and never answers from LangChain's cache."""
    takes_n: bool
    """Whether the model's class can ask for several samples in one request."""
    original: weakref.ref[BaseChatModel]
    fields: dict[str, Any]
    """The original's own, as they were when it was copied."""
    manners: Manners = Manners()
    most_samples: dict[bool, int] = field(default_factory=dict[bool, int])
    """Most samples of one request, with greedy decoding (True) and without, once refused."""
    bare_reasoning: bool = False
    """Whether its replies were seen to begin with reasoning that has no opening mark."""
    _copies: dict[frozenset[tuple[str, Any]], BaseChatModel] = field(
        default_factory=dict[frozenset[tuple[str, Any]], BaseChatModel]
    )

    def with_fields(self, changes: dict[str, Any]) -> BaseChatModel:
        """The model with other fields. Requests that are alike share one copy: LangChain describes
        a model to callbacks in every call, and computes that once for each object."""
        key = frozenset(changes.items())
        if key not in self._copies:
            if len(self._copies) == _COPIES:
                del self._copies[next(iter(self._copies))]
            self._copies[key] = self.model.model_copy(update=changes)
        return self._copies[key]

    def most(self, greedy: bool) -> int:
        """How many samples one request may ask for."""
        if not self.takes_n or self.manners.only_streams:
            return 1
        return self.most_samples.get(greedy, sys.maxsize)


@dataclass
class _Loop:
    """What belongs to one event loop."""

    handles: dict[int, Handle] = field(default_factory=dict[int, Handle])
    http_client: Any = None
    closing: AsyncGenerator[None, None] | None = None


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = weakref.WeakKeyDictionary()


async def handle(model: BaseChatModel) -> Handle:
    """The running loop's handle of `model`, made on first use and when the model was changed."""
    loop = _loops.setdefault(asyncio.get_running_loop(), _Loop())
    key = id(model)
    held = loop.handles.get(key)
    if held is None or held.original() is not model or _changed(model, held.fields):
        handles = loop.handles
        original = weakref.ref(model, lambda _: handles.pop(key, None))
        fields = dict(model.__dict__)
        held = handles[key] = Handle(await _copy(model), _takes_n(model), original, fields)
    return held


def _changed(model: BaseChatModel, fields: dict[str, Any]) -> bool:
    now = model.__dict__
    return now.keys() != fields.keys() or any(now[name] is not fields[name] for name in fields)


def _takes_n(model: BaseChatModel) -> bool:
    responses = getattr(model, "use_responses_api", None) is True
    return "n" in type(model).model_fields and not responses


async def _copy(model: BaseChatModel) -> BaseChatModel:
    # Streaming would merge the n samples of one request into one text.
    changes: dict[str, Any] = {"disable_streaming": True, "cache": False}
    if "streaming" in type(model).model_fields:
        changes["streaming"] = False
    if getattr(model, "use_responses_api", False) is None:
        changes["use_responses_api"] = False
    client = getattr(model, "root_async_client", None)
    if client is not None:
        from tpo_graph.models.completions import Completions

        if options := _cleaned(model, client):
            client = client.with_options(**options)
        if not _has_own_http(model):
            client = client.with_options(http_client=await http_client())
        changes |= {"root_async_client": client, "async_client": Completions(client)}
    return model.model_copy(update=changes)


def _cleaned(model: BaseChatModel, client: Any) -> dict[str, Any]:
    """The key and headers of a client, where they are not as a person can have meant them."""
    changes: dict[str, Any] = {}
    key = getattr(client, "api_key", None)
    if isinstance(key, str) and (cleaned := clean_key(key, f"the model {model_name(model)!r}")):
        changes |= {} if cleaned == key else {"api_key": cleaned}
    headers: dict[str, object] = getattr(model, "default_headers", None) or {}
    stripped = {name: v.strip() for name, v in headers.items() if isinstance(v, str)}
    if any(headers[name] != value for name, value in stripped.items()):
        changes["default_headers"] = stripped
    return changes


def _has_own_http(model: BaseChatModel) -> bool:
    settings = ("http_async_client", "http_socket_options", "openai_proxy")
    return any(getattr(model, setting, None) is not None for setting in settings)


async def http_client() -> Any:
    """The running loop's HTTP client, an `httpx2.AsyncClient`; addresses, keys and timeouts come
    with each request."""
    loop = _loops.setdefault(asyncio.get_running_loop(), _Loop())
    if loop.http_client is None:
        loop.http_client = _new_http_client()
        loop.closing = _closing(loop.http_client)
        # Started here, it is ended by the loop's `shutdown_asyncgens`, which `asyncio.run` calls.
        await anext(loop.closing)
    return loop.http_client


def _new_http_client() -> Any:
    import openai

    hooks = {"response": [_show_error]}
    if getproxies():
        return openai.DefaultAsyncHttpxClient(event_hooks=hooks)
    from tpo_graph.models.transport import AiohttpTransport

    return openai.DefaultAsyncHttpxClient(transport=AiohttpTransport(), event_hooks=hooks)


async def _show_error(response: Any) -> None:
    """Give a response the status that its body reports: gateways put errors into a 200.

    Here the openai client sees it, and tries again where the status says so.
    """
    kind = response.headers.get("content-type", "")
    if response.status_code != 200 or "event-stream" in kind:
        return
    # Within a text of the body the quotes are escaped.
    if b'"error"' in await response.aread():
        response.status_code = _reported_status(response.content) or 200


def _reported_status(content: bytes) -> int | None:
    try:
        body: Any = json.loads(content)
        choices = body.get("choices") or ()
        errors = [choice.get("error") for choice in choices] or [body.get("error")]
        reported = [error.get("code") or error.get("status") for error in errors]
        codes = [int(code) for code in reported]
    except (ValueError, TypeError, AttributeError):
        return None
    return codes[0] if 400 <= codes[0] < 600 else None


async def _closing(http_client: Any) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await http_client.aclose()
