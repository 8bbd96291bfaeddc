"""A real `langgraph dev` on a free port, in a folder of its own, with the repository's own
configuration; its models are `tests.openai_server` and a tiny random classifier."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import httpx
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

ROOT = Path(__file__).parent.parent.parent
_START_SECONDS = 120


class StudioServer:
    """The server's process; a context manager. `kill` it and `start` it again at will.

    Args:
        folder: working directory: langgraph.json, the database and the server's own files.
        environment: variables on top of this process's.
        config: entries of langgraph.json on top of the repository's.
    """

    def __init__(self, folder: Path, environment: dict[str, str], **config: Any) -> None:
        self.folder = folder
        self.log = folder / "server.log"
        own = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))
        (folder / "langgraph.json").write_text(json.dumps({**own, **config}), encoding="utf-8")
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("LANGSMITH", "LANGCHAIN"))},
            "LANGGRAPH_CLI_NO_ANALYTICS": "1",
            "LANGGRAPH_NO_VERSION_CHECK": "true",
            "LANGSMITH_TRACING": "false",
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end(signal.SIGTERM)

    def start(self) -> None:
        """Start the process and wait until it serves."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-m", "langgraph_cli", "dev", "--no-browser", "--no-reload"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                if httpx.get(f"{self.url}/ok", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        self.kill()
        raise AssertionError(f"the server did not start:\n{self.output()[-4000:]}")

    def kill(self) -> None:
        """SIGKILL: nothing is flushed, nothing is closed."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                os.killpg(self._process.pid, how)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, token: str | None = None) -> SyncLangGraphClient:
        """The official client."""
        headers = {"Authorization": f"Bearer {token}"} if token else None
        return get_sync_client(url=self.url, api_key=None, headers=headers)

    def output(self) -> str:
        """Everything the process has printed, over all its starts."""
        return self.log.read_text(encoding="utf-8", errors="replace")
