"""The process: it listens, says where, and ends in order."""

import asyncio
import logging
import socket
from contextlib import AsyncExitStack
from types import FrameType
from typing import Any

import uvicorn

from tpo_graph.errors import ConfigurationError
from tpo_graph.serve.app import application
from tpo_graph.serve.options import ServeOptions
from tpo_graph.serve.service import service
from tpo_graph.settings import Settings

logger = logging.getLogger("tpo_graph.serve")


class Server(uvicorn.Server):
    """Ends runs in order: on SIGTERM or SIGINT no new ones begin, those in flight may end."""

    def __init__(self, settings: Settings, options: ServeOptions, **given: Any) -> None:
        self.app = application(options)
        self._opening = service(settings, options, **given)
        self._opened = AsyncExitStack()
        self._drain = options.drain
        self._local = options.api_key is None
        self._draining: asyncio.Task[None] | None = None
        config = uvicorn.Config(
            self.app,
            access_log=False,
            log_config=None,
            lifespan="off",
            ws="none",  # nothing here speaks it, and finding an implementation imports one
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(options.drain + 10),
        )
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Load the models and open the database; then take requests, and say where.

        Raises:
            ConfigurationError, StoreError: see `run_server`. Raised in the application's own
                lifespan, they would be a traceback in uvicorn's log.
        """
        self.app.state.service = await self._opened.enter_async_context(self._opening)
        await super().startup(sockets)
        for each in sockets or ():
            host, port = each.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            logger.info("http://%s:%d answers OpenAI's clients; base URL: /v1", shown, port)
        if self._local:
            logger.info("It takes requests of this machine only, because it has no API key.")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is under way, then close the database."""
        await super().shutdown(sockets)
        await self.app.state.service.answers.drain(0)
        await self._opened.aclose()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; a second signal stops the calls in flight."""
        seconds = 0.0 if self.should_exit else self._drain
        asyncio.get_running_loop().call_soon_threadsafe(self._begin_drain, seconds)
        super().handle_exit(sig, frame)

    def _begin_drain(self, seconds: float) -> None:
        if hasattr(self.app.state, "service"):
            answers = self.app.state.service.answers
            self._draining = asyncio.create_task(answers.drain(seconds))


def listening(options: ServeOptions) -> socket.socket:
    """A socket that listens.

    Raises:
        ConfigurationError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        found = socket.create_server(
            (options.host.strip("[]"), options.port), family=family, backlog=2048
        )
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {options.host}:{options.port}: {error.strerror}. "
            "Give another --port, or end what listens there."
        ) from error
    found.set_inheritable(True)
    return found


def run_server(settings: Settings, options: ServeOptions) -> None:
    """Serve until a signal comes.

    Raises:
        ConfigurationError: a setting is wrong; nothing listens.
        StoreError: the database cannot be opened.
    """
    Server(settings, options).run(sockets=[listening(options)])
