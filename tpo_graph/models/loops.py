"""One working copy of a chat model per event loop.

A pooled HTTP connection belongs to the event loop that opened it: used from another loop it fails
with "Event loop is closed" or hangs. So the models given to us are never called themselves: each
loop calls its own copies, and those of the OpenAI family share an HTTP client that is closed with
the loop.
"""

import asyncio
import weakref
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any
from urllib.request import getproxies

from langchain_core.language_models import BaseChatModel


@dataclass
class Handle:
    """A chat model as one event loop uses it."""

    model: BaseChatModel
    """The copy to call: it never streams, and never answers from LangChain's cache."""
    takes_n: bool
    """Whether one request may ask for several samples; cleared when the server refuses."""
    original: weakref.ref[BaseChatModel]
    bare_reasoning: bool = False
    """Whether its replies were seen to begin with reasoning that has no opening mark."""


@dataclass
class _Loop:
    """What belongs to one event loop."""

    handles: dict[int, Handle] = field(default_factory=dict[int, Handle])
    http_client: Any = None
    closing: AsyncGenerator[None, None] | None = None


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = weakref.WeakKeyDictionary()


async def handle(model: BaseChatModel) -> Handle:
    """The running loop's handle of `model`, made on first use."""
    loop = _loops.setdefault(asyncio.get_running_loop(), _Loop())
    key = id(model)
    held = loop.handles.get(key)
    if held is None or held.original() is not model:
        handles = loop.handles
        original = weakref.ref(model, lambda _: handles.pop(key, None))
        held = handles[key] = Handle(await _copy(model, loop), _takes_n(model), original)
    return held


def _takes_n(model: BaseChatModel) -> bool:
    responses = getattr(model, "use_responses_api", None) is True
    return "n" in type(model).model_fields and not responses


async def _copy(model: BaseChatModel, loop: _Loop) -> BaseChatModel:
    # Streaming would merge the n samples of one request into one text.
    changes: dict[str, Any] = {"disable_streaming": True, "cache": False}
    if "streaming" in type(model).model_fields:
        changes["streaming"] = False
    if getattr(model, "use_responses_api", False) is None:
        changes["use_responses_api"] = False
    client = getattr(model, "root_async_client", None)
    if client is not None:
        from tpo_graph.models.completions import Completions

        if not _has_own_http(model):
            client = client.with_options(http_client=await _http_client(loop))
        changes |= {"root_async_client": client, "async_client": Completions(client)}
    return model.model_copy(update=changes)


def _has_own_http(model: BaseChatModel) -> bool:
    settings = ("http_async_client", "http_socket_options", "openai_proxy")
    return any(getattr(model, setting, None) is not None for setting in settings)


async def _http_client(loop: _Loop) -> Any:
    """The loop's HTTP client; addresses, keys and timeouts come with each request."""
    if loop.http_client is None:
        loop.http_client = _new_http_client()
        loop.closing = _closing(loop.http_client)
        # Started here, it is ended by the loop's `shutdown_asyncgens`, which `asyncio.run` calls.
        await anext(loop.closing)
    return loop.http_client


def _new_http_client() -> Any:
    import openai

    if getproxies():
        return openai.DefaultAsyncHttpxClient()
    from tpo_graph.models.transport import AiohttpTransport

    return openai.DefaultAsyncHttpxClient(transport=AiohttpTransport())


async def _closing(http_client: Any) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await http_client.aclose()
