"""The HTTP application: its routes, who is let in, and what is logged and counted."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar
from uuid import uuid4

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tpo_graph.errors import TPOError
from tpo_graph.serve.base import Completion
from tpo_graph.serve.completions import Outcome, Reply
from tpo_graph.serve.feed import Feed
from tpo_graph.serve.metrics import CONTENT_TYPE
from tpo_graph.serve.options import ServeOptions
from tpo_graph.serve.refusals import Refusal, invalid, refusal, stopped
from tpo_graph.serve.request import Asked, as_object, read_chat_request
from tpo_graph.serve.response_items import chat_body
from tpo_graph.serve.responses import Response as ResponseObject
from tpo_graph.serve.service import Service
from tpo_graph.serve.tools import free_text
from tpo_graph.store.trajectory import read_trajectory
from tpo_graph.view.access import CHALLENGE, LOCAL_HOSTS, has_key
from tpo_graph.view.app import Pages

T = TypeVar("T")

_OPEN = ("/health", "/ready", "/metrics")
"""What needs no key: it says nothing of what was asked, and probes have none."""
_PING_SECONDS = 10
_BEGIN_SECONDS = 30
"""Of waiting for the base model's first chunk: proxies close a connection that stays silent."""

logger = logging.getLogger("tpo_graph.serve")


def application(options: ServeOptions) -> Starlette:
    """The application; its `state.service` is what the endpoints work with."""
    middleware = [Middleware(Gate, options=options)]
    if options.api_key is None:  # no page of another site may reach it by a name of its own
        allowed = [*LOCAL_HOSTS, options.host]
        middleware.insert(0, Middleware(TrustedHostMiddleware, allowed_hosts=allowed))
    return Starlette(
        routes=[
            Route("/health", health),
            Route("/ready", ready),
            Route("/metrics", metrics),
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", model),
            Route("/v1/chat/completions", chat_completions, methods=["POST"]),
            Route("/v1/responses", responses, methods=["POST"]),
            Route("/v1/tpo/runs/{run_id}", run),
            *Pages(lambda request: _service(request).runs.store).routes,
        ],
        middleware=middleware,
        # What is named here is answered; what is not is answered and logged by uvicorn as well.
        exception_handlers=dict.fromkeys(
            (Exception, HTTPException, Refusal, TPOError, ClientDisconnect), failed
        ),
    )


async def health(request: Request) -> Response:
    """The process is alive."""
    return JSONResponse({"status": "ok"})


async def ready(request: Request) -> Response:
    """The process takes requests; not while it is about to stop."""
    if _service(request).answers.draining:
        raise stopped()
    return JSONResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """For Prometheus."""
    return Response(_service(request).metrics.text(), media_type=CONTENT_TYPE)


async def models(request: Request) -> Response:
    """The models that can be asked."""
    service = _service(request)
    tokens = await service.window.tokens()
    found = [_model(name, tokens) for name in service.catalog.names]
    return JSONResponse({"object": "list", "data": found})


async def model(request: Request) -> Response:
    """One of them."""
    name = request.path_params["name"]
    service = _service(request)
    service.catalog.settings_of(name)
    return JSONResponse(_model(name, await service.window.tokens()))


async def chat_completions(request: Request) -> Response:
    """`POST /v1/chat/completions`."""
    service = _service(request)
    asked = _asked(request, service, await _body(request, service.options.max_body))
    if not asked.stream:
        return JSONResponse(await _completion(request, service, asked))
    chunks = await _chunks(request, service, asked)
    return _stream(service, chunks, lambda error: [error], end="[DONE]")


async def responses(request: Request) -> Response:
    """`POST /v1/responses`, stateless."""
    service = _service(request)
    body = await _body(request, service.options.max_body)
    asked = _asked(request, service, chat_body(body))
    reply = ResponseObject(body, asked.custom_tools)
    if not asked.stream:
        return JSONResponse(reply.whole(await _completion(request, service, asked)))
    events = reply.events(await _chunks(request, service, asked))
    return _stream(service, events, lambda error: reply.failed(error["error"]))


async def run(request: Request) -> Response:
    """`GET /v1/tpo/runs/ID`: all that is stored of a run."""
    store = _service(request).runs.store
    if store is None:
        raise Refusal(404, "runs are kept in memory here (--database none), so there are none")
    found = await read_trajectory(store, request.path_params["run_id"])
    told = {**found, "run": {n: v for n, v in found["run"].items() if n != "launch"}}
    text = json.dumps(told, ensure_ascii=False, default=lambda at: f"{at.isoformat()}Z")
    return Response(text, media_type="application/json")


def _asked(request: Request, service: Service, body: dict[str, Any]) -> Asked:
    """The request in this body, let in.

    Raises:
        Refusal: it is wrong, or there is no room for it.
    """
    asked = read_chat_request(body, service.catalog, service.settings, service.options)
    request.scope["tpo_log"]["model"] = asked.model
    if asked.turn and not service.base.calls_tools:
        raise invalid(
            f"{service.base.name!r} cannot call tools. Send the request without tools.",
            "tools",
            "unsupported_parameter",
        )
    if asked.context is not None:
        service.admit(asked, request.headers)
    elif service.answers.draining:
        raise stopped()
    return asked


async def _completion(request: Request, service: Service, asked: Asked) -> Completion:
    if asked.context is None:
        working = service.answers.beside(service.base.complete(asked.body))
        made = await _unless_gone(request, working)
        return free_text(made, asked.custom_tools)
    async with service.attached(asked, request.headers) as live:
        outcome = await _unless_gone(request, asyncio.create_task(live.answer()))
        lines = "".join([line async for line in live.follow()])
    _note(request, outcome.result)
    return Reply(asked).whole(outcome, lines)


async def _chunks(request: Request, service: Service, asked: Asked) -> AsyncGenerator[Completion]:
    """The chunks of a reply. Those of the base model have begun, so that a failure before the
    first of them still has a status.
    """
    if asked.context is not None:
        return _run_chunks(request, service, asked)
    feed = Feed(_base_chunks(service, asked), service.answers.beside)
    await _unless_gone(request, asyncio.create_task(feed.begun(_BEGIN_SECONDS)))
    return feed.read()


async def _run_chunks(
    request: Request, service: Service, asked: Asked
) -> AsyncGenerator[Completion]:
    reply = Reply(asked)
    yield reply.beginning()
    async with service.attached(asked, request.headers) as live:
        async for line in live.follow():
            yield reply.progress(line)
        outcome = await live.answer()
    _note(request, outcome.result)
    for chunk in reply.ending(outcome):
        yield chunk


async def _base_chunks(service: Service, asked: Asked) -> AsyncGenerator[Completion]:
    if asked.custom_tools:  # their calls are told whole
        reply = Reply(asked)
        turn = await service.base.complete(asked.body)
        yield reply.beginning()
        for chunk in reply.ending(Outcome(turn=turn)):
            yield chunk
        return
    async with aclosing(service.base.stream(asked.body)) as chunks:
        async for chunk in chunks:
            yield chunk


def _stream(
    service: Service,
    told: AsyncGenerator[dict[str, Any]],
    failed: Callable[[dict[str, Any]], list[dict[str, Any]]],
    end: str | None = None,
) -> Response:
    """Objects as server-sent events.

    Args:
        failed: what is sent of an error on the way, from OpenAI's error object.
        end: what is sent at the very end.
    """

    async def events() -> AsyncGenerator[ServerSentEvent]:
        async with aclosing(told):
            try:
                async for each in told:
                    yield _event(each)
            except Exception as error:
                refused = refusal(error)
                if refused.status == 500:
                    logger.error("a stream failed", exc_info=error)
                for each in failed(refused.body()):
                    yield _event(each)
        if end is not None:
            yield ServerSentEvent(end, sep="\n")

    return EventSourceResponse(
        events(),
        sep="\n",
        ping=_PING_SECONDS,
        ping_message_factory=lambda: ServerSentEvent(comment="keep-alive", sep="\n"),
        shutdown_grace_period=service.options.drain + 5,
    )


def _event(told: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(told, ensure_ascii=False), event=told.get("type"), sep="\n")


async def _unless_gone(request: Request, working: asyncio.Task[T]) -> T:
    """The result of a task, which is cancelled when the client goes away.

    Raises:
        ClientDisconnect: it did.
        Refusal: the server stops.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    watching = asyncio.create_task(gone())
    try:
        await asyncio.wait([working, watching], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    except asyncio.CancelledError:  # one of both, when the time to end is over
        raise stopped() from None
    finally:
        watching.cancel()
        working.cancel()


async def _body(request: Request, most: int) -> dict[str, Any]:
    """The body, a JSON object.

    Raises:
        Refusal: it is too long, or not said to be JSON. (A page of another site can send a browser
            here with plain text, but not with JSON.)
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Refusal(415, "send JSON: Content-Type: application/json")
    parts: list[bytes] = []
    length = int(request.headers.get("content-length") or 0)
    if length <= most:
        length = 0
        async for part in request.stream():
            parts.append(part)
            length += len(part)
            if length > most:
                break
    if length > most:
        raise Refusal(413, f"the body is longer than the {most:,} bytes that this server takes")
    return as_object(b"".join(parts))


async def failed(request: Request, error: Exception) -> Response:
    """The reply to a request that failed."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    if isinstance(error, HTTPException):
        told = f"{request.method} {request.url.path}: {error.detail}."
        if error.status_code == 404:
            told += " A client's base URL ends in /v1, below which are: chat/completions, "
            told += "responses, models, tpo/runs/ID."
        error = Refusal(error.status_code, told)
    told = refusal(error)
    if told.status == 500:
        logger.error("a request failed", exc_info=error)
    return JSONResponse(told.body(), told.status, told.headers)


class Gate:
    """Lets requests with the key in, names each, logs and counts it."""

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self._app = app
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, started, status = f"req_{uuid4().hex}", time.monotonic(), 499
        log: dict[str, Any] = {"request_id": request_id}
        scope["tpo_log"] = log

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()), (b"x-request-id", request_id.encode())
                ]  # fmt: skip
            await send(message)

        try:
            app = self._app if self._lets_in(scope) else _denied
            await app(scope, receive, sending)
        finally:
            seconds = time.monotonic() - started
            path = getattr(scope.get("route"), "path", "other")
            scope["app"].state.service.metrics.requested(path, status, seconds)
            self._log({**log, "method": scope["method"], "path": scope["path"]}, status, seconds)

    def _lets_in(self, scope: Scope) -> bool:
        key = self._options.api_key
        if key is None or scope["path"] in _OPEN:
            return True
        return has_key(scope, key)

    def _log(self, told: dict[str, Any], status: int, seconds: float) -> None:
        if told["path"] in _OPEN:
            return
        told |= {"status": status, "seconds": round(seconds, 3)}
        line = " ".join(f"{name}={value!r}" for name, value in told.items())
        logger.info("%s", line, extra=told)


async def _denied(scope: Scope, receive: Receive, send: Send) -> None:
    told = Refusal(
        401,
        "the API key is missing or wrong. Send it in the header Authorization, scheme Bearer.",
        code="invalid_api_key",
    )
    # A browser that opens a page asks its user; a client of the API is told what to send.
    asked = {} if scope["path"].startswith("/v1/") else CHALLENGE
    await JSONResponse(told.body(), 401, {**told.headers, **asked})(scope, receive, send)


def _service(request: Request) -> Service:
    return request.app.state.service


def _model(name: str, window: int | None) -> dict[str, Any]:
    told = {"id": name, "object": "model", "created": 0, "owned_by": "tpo"}
    if window is None:
        return told
    return {**told, "max_model_len": window, "context_length": window}  # vLLM's name, OpenRouter's


def _note(request: Request, result: Any) -> None:
    if result is not None:
        told = {"run_id": result.run_id, "stop_reason": result.stop_reason}
        request.scope["tpo_log"].update(told)
