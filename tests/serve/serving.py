"""A `tpo serve` on a thread of the test, with fake models and a real port."""

import threading
from types import TracebackType
from typing import Any, Self

import httpx
import openai

from tpo_graph.serve.options import ServeOptions
from tpo_graph.serve.server import Server, listening
from tpo_graph.settings import Settings
from tpo_graph.testing import ScriptedChatModel, prefer_longer

TPO = "tpo/ScriptedChatModel"
BASE = "ScriptedChatModel"
ASKED = [{"role": "user", "content": "Why is the sky blue?"}]


class Serving:
    """The server; a context manager.

    Args:
        database: its URL; None keeps runs in memory.
        model: the policy.
        options: of the server.
        settings: of its runs.
    """

    def __init__(
        self,
        database: str | None = None,
        *,
        model: Any = None,
        reward_model: Any = prefer_longer,
        options: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self.model = ScriptedChatModel() if model is None else model
        self.options = ServeOptions.load({"port": 0, "drain": 2.0, **(options or {})})
        run = {"depth": 1, "width": 2, "database_url": database or "none", **settings}
        self._server = Server(
            Settings.load(run), self.options, model=self.model, reward_model=reward_model
        )
        self._socket = listening(self.options)
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],))
        self._clients: list[openai.OpenAI] = []

    def __enter__(self) -> Self:
        self._thread.start()
        with httpx.Client() as client:  # connections wait in the socket's queue until it serves
            client.get(f"{self.url}/health", timeout=60).raise_for_status()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for client in self._clients:  # or the garbage collector warns of their sockets
            client.close()
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()

    @property
    def service(self) -> Any:
        """What the endpoints work with."""
        return self._server.app.state.service

    def client(self, **options: Any) -> Any:
        """OpenAI's own client, whose types do not know what this server adds to a reply."""
        given: dict[str, Any] = {"api_key": "any", "max_retries": 0, **options}
        self._clients.append(openai.OpenAI(base_url=f"{self.url}/v1", **given))
        return self._clients[-1]

    def post(self, body: Any, path: str = "chat/completions", **options: Any) -> httpx.Response:
        """A bare request."""
        return httpx.post(f"{self.url}/v1/{path}", json=body, timeout=60, **options)

    def calls(self) -> int:
        """How many calls the policy has had."""
        return len(self.model.calls)
