"""HTTP for the openai client through aiohttp, which takes half the CPU time of its own transport.

With 32 requests in flight that client's connection pool asks every socket, on every request,
whether it is still good. Redirects, cookies, timeouts and retries stay with the httpx2 client and
the openai client above; here is only the exchange itself.
"""

import socket
import ssl
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import aiohttp
import httpx2
from yarl import URL

_IDLE = 4.0
"""Seconds a connection is kept for reuse: less than uvicorn's 5, which vLLM has."""
_CONNECTIONS = 1000
_PROBES = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
"""A long answer sends nothing for minutes: probes keep the way open and notice a dead server."""


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """The transport of one event loop's HTTP client; make it and close it there."""

    def __init__(self) -> None:
        connector = aiohttp.TCPConnector(
            limit=_CONNECTIONS,
            keepalive_timeout=_IDLE,
            ssl=_ssl_context(),
            socket_factory=_socket,
        )
        self._session = aiohttp.ClientSession(
            connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request and return its response once the headers are there."""
        limits: dict[str, float | None] = request.extensions.get("timeout", {})
        timeout = aiohttp.ClientTimeout(
            connect=limits.get("pool"),
            sock_connect=limits.get("connect"),
            sock_read=limits.get("read"),
        )
        with _as_httpx_errors(request):
            response = await self._session.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=request.headers.multi_items(),
                data=await request.aread() or None,
                allow_redirects=False,
                timeout=timeout,
            )
        return httpx2.Response(
            response.status,
            headers=list(response.raw_headers),
            stream=_Body(response, request),
            request=request,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse, request: httpx2.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx_errors(self._request):
            async for piece in self._response.content.iter_any():
                yield piece

    async def aclose(self) -> None:
        # Read to the end, the connection was released for reuse already; else it is of no use.
        self._response.close()


@lru_cache(maxsize=1)
def _ssl_context() -> ssl.SSLContext:
    # Read once: it takes tens of milliseconds, and event loops may share it.
    return httpx2.create_ssl_context()


def _socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _PROBES:
        if hasattr(socket, name):
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made


@contextmanager
def _as_httpx_errors(request: httpx2.Request) -> Generator[None]:
    """aiohttp's errors as those the openai client knows, and tries again after."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise httpx2.ConnectTimeout(str(error), request=request) from error
    except TimeoutError as error:
        raise httpx2.ReadTimeout(str(error), request=request) from error
    except aiohttp.ClientConnectorError as error:
        raise httpx2.ConnectError(str(error), request=request) from error
    except (aiohttp.InvalidURL, ValueError) as error:
        raise httpx2.UnsupportedProtocol(str(error), request=request) from error
    except (aiohttp.ClientPayloadError, aiohttp.ClientResponseError) as error:
        # Not the cause: aiohttp gives a reply that it cannot read the status 400, as if the server
        # had refused the request.
        raise httpx2.ReadError(str(error), request=request) from None
    except (aiohttp.ClientError, OSError) as error:
        raise httpx2.ReadError(str(error), request=request) from error
