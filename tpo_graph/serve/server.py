"""The process: it listens, says where, and ends in order."""

import asyncio
import logging
import socket
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
        self.app = application(service(settings, options, **given), options)
        self._drain = options.drain
        self._draining: asyncio.Task[None] | None = None
        config = uvicorn.Config(
            self.app,
            access_log=False,
            log_config=None,
            ws="none",  # nothing here speaks it, and finding an implementation imports one
            server_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(options.drain + 10),
        )
        super().__init__(config)

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
    taken = listening(options)
    host, port = taken.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    logger.info("http://%s:%d answers OpenAI's clients; base URL: /v1", shown, port)
    if options.api_key is None:
        logger.info("It takes requests of this machine only, because it has no API key.")
    Server(settings, options).run(sockets=[taken])
