"""A real local server that speaks the OpenAI chat-completions protocol and misbehaves on command.

In a test: `with OpenAIServer() as server`, then `server.script.append(Behaviour(status=429))`.
As a process: `python -m tests.openai_server --port 0 --log calls.jsonl`; its first line on stdout
is its URL. Requests are logged when they start and again when their reply has been sent in full,
so a client that was killed in between leaves a start without an end. A request may carry its own
`test_behaviour`, an object of `Behaviour` fields (with ChatOpenAI: `extra_body`).
"""

import argparse
import asyncio
import gzip
import hashlib
import importlib
import json
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.server_thread import ServerThread

Responder = Callable[[list[dict[str, Any]], int | None, int], str]
"""(messages, seed, choice index) -> the text of that choice."""


@dataclass
class Behaviour:
    """How the server treats one request; the defaults are those of a good server."""

    contents: list[str | None] | None = None
    """Texts of the choices, instead of the responder's; the last one is repeated."""
    choices: int | None = None
    """How many choices to return, whatever `n` said."""
    finish_reason: str = "stop"
    refusal: str | None = None
    cached_tokens: int = 0
    delay: float = 0.0
    """Seconds before the reply."""
    held: Callable[[], bool] | None = None
    """No reply while this is true."""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    error: dict[str, Any] | str | None = None
    """Body of any other status: {"message", "param", "code"}, or raw text."""
    body: Any = None
    """Any other body, as JSON, whatever the status."""
    hang: bool = False
    """Never reply."""
    reset: bool = False
    """Reset the connection instead of replying."""
    cut: bool = False
    """Close the connection in the middle of the body."""
    gzip: bool = False
    """Compress the body."""
    stall: bool = False
    """Send the first chunk of a stream, and never another."""
    truncate: bool = False
    """Reply with half of the JSON as if it were whole."""


@dataclass
class Call:
    """One request as the server saw it."""

    id: int
    started: float
    """`time.time()` when it arrived; `ended` is when its reply had been sent."""
    messages: list[dict[str, Any]]
    params: dict[str, Any]
    """The rest of the body: model, n, seed, temperature, ..."""
    headers: dict[str, str]
    peer: tuple[str, int]
    """The client's end of the connection."""
    ended: float | None = None
    status: int | None = None


def digest_words(messages: list[dict[str, Any]], seed: int | None, index: int) -> str:
    """The default responder: eight words that depend on everything that was asked."""
    text = json.dumps([messages, seed, index], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return " ".join(digest[start : start + 4] for start in range(0, 32, 4))


class OpenAIServer(ServerThread):
    """The server; a context manager that runs it on a thread of its own."""

    def __init__(
        self,
        responder: Responder = digest_words,
        *,
        rule: Callable[[Call], Behaviour | None] | None = None,
        log: Path | None = None,
    ) -> None:
        self.responder = responder
        self.rule: Callable[[Call], Behaviour | None] | None = rule
        self.script: deque[Behaviour] = deque()
        """Behaviours of the next requests, one each; then `rule`, then good behaviour."""
        self.calls: list[Call] = []
        self.models: list[dict[str, Any]] = []
        """What the server tells of its models; none, as servers do that have no such list."""
        self._log = log

    @property
    def url(self) -> str:
        """What goes into OPENAI_BASE_URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def handlers(self) -> list[web.RouteDef]:
        return [
            web.post("/{base:.*}/chat/completions", self._handle),
            web.get("/{base:.*}/models", self._models),
        ]

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": self.models})

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        call = Call(
            id=len(self.calls),
            started=time.time(),
            messages=body.pop("messages"),
            params=body,
            headers={name.lower(): value for name, value in request.headers.items()},
            peer=request.transport.get_extra_info("peername") if request.transport else ("", 0),
        )
        self.calls.append(call)
        if (told := body.pop("test_behaviour", None)) is not None:
            behaviour = Behaviour(**told)
        elif self.script:
            behaviour = self.script.popleft()
        else:
            behaviour = (self.rule and self.rule(call)) or Behaviour()
        self._write(event="start", id=call.id, messages=call.messages, params=call.params)
        response = await self._reply(request, call, behaviour)
        call.ended, call.status = time.time(), response.status
        self._write(event="end", id=call.id, status=call.status)
        return response

    def _write(self, **record: Any) -> None:
        if self._log is not None:
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": time.time(), **record}) + "\n")

    async def _reply(
        self, request: web.Request, call: Call, behaviour: Behaviour
    ) -> web.StreamResponse:
        while behaviour.held is not None and behaviour.held():  # noqa: ASYNC110 - another thread's
            await asyncio.sleep(0.02)
        await asyncio.sleep(behaviour.delay)
        if behaviour.hang:
            await asyncio.Event().wait()
        if behaviour.reset:
            await _reset(request)
        if behaviour.body is not None:
            body = json.dumps(behaviour.body).encode()
            return await _send(request, body, behaviour.status, behaviour.headers)
        if behaviour.status != 200:
            error = behaviour.error or {"message": f"scripted {behaviour.status}"}
            body = error if isinstance(error, str) else json.dumps({"error": error})
            return await _send(request, body.encode(), behaviour.status, behaviour.headers)
        completion = self._completion(call, behaviour)
        if call.params.get("stream"):
            return await _stream(request, completion, call.params, stall=behaviour.stall)
        body = json.dumps(completion).encode()
        if behaviour.truncate:
            body = body[: len(body) // 2]
        headers = behaviour.headers
        if behaviour.gzip:
            body, headers = gzip.compress(body), {**headers, "Content-Encoding": "gzip"}
        cut = len(body) // 2 if behaviour.cut else None
        return await _send(request, body, 200, headers, cut)

    def _completion(self, call: Call, behaviour: Behaviour) -> dict[str, Any]:
        count = behaviour.choices if behaviour.choices is not None else call.params.get("n") or 1
        seed = call.params.get("seed")
        texts: list[str | None] = [
            self.responder(call.messages, seed, index) for index in range(count)
        ]
        if behaviour.contents is not None:
            given = behaviour.contents
            texts = [given[min(index, len(given) - 1)] for index in range(count)]
        prompt = sum(len(str(message.get("content")).split()) for message in call.messages)
        completion = sum(len((text or "").split()) for text in texts)
        return {
            "id": f"chatcmpl-{call.id}",
            "object": "chat.completion",
            "created": int(call.started),
            "model": call.params.get("model"),
            "choices": [
                {
                    "index": index,
                    "message": {
                        "role": "assistant",
                        "content": text,
                        **({"refusal": behaviour.refusal} if behaviour.refusal else {}),
                    },
                    "finish_reason": behaviour.finish_reason,
                }
                for index, text in enumerate(texts)
            ],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
                "prompt_tokens_details": {"cached_tokens": behaviour.cached_tokens},
            },
        }


async def _reset(request: web.Request) -> None:
    assert request.transport is not None
    linger = struct.pack("ii", 1, 0)
    request.transport.get_extra_info("socket").setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, linger
    )
    request.transport.abort()
    await asyncio.Event().wait()  # until the lost connection cancels this handler


async def _send(
    request: web.Request,
    body: bytes,
    status: int,
    headers: dict[str, str],
    cut: int | None = None,
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    response.content_type = "application/json"
    response.content_length = len(body)
    await response.prepare(request)
    await response.write(body[:cut])
    if cut is not None:
        assert request.transport is not None
        request.transport.close()
        await asyncio.Event().wait()
    await response.write_eof()
    return response


async def _stream(
    request: web.Request, completion: dict[str, Any], params: dict[str, Any], *, stall: bool
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    head: dict[str, Any] = {
        **completion,
        "object": "chat.completion.chunk",
        "usage": None,
        "choices": [],
    }
    chunks: list[dict[str, Any]] = []
    for choice in completion["choices"]:
        words = (choice["message"]["content"] or "").split(" ")
        for position, word in enumerate(words):
            delta = {"role": "assistant", "content": (" " if position else "") + word}
            chunks.append({"index": choice["index"], "delta": delta, "finish_reason": None})
        chunks.append(
            {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        )
    events = [{**head, "choices": [chunk]} for chunk in chunks]
    if (params.get("stream_options") or {}).get("include_usage"):
        events.append({**head, "usage": completion["usage"]})
    for event in events:
        await response.write(f"data: {json.dumps(event)}\n\n".encode())
        if stall:
            await asyncio.Event().wait()
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def _named(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--responder", default="tests.openai_server:digest_words")
    parser.add_argument("--rule", help="module:function, Call -> Behaviour or None")
    options = parser.parse_args()
    server = OpenAIServer(
        _named(options.responder),
        rule=_named(options.rule) if options.rule else None,
        log=options.log,
    )
    async with server.serving(options.port):
        print(server.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
