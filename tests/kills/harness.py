"""Drive a run that is killed again and again, and compare it with one that never was."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, inspect, text

from tests.openai_server import Call, OpenAIServer
from tpo_graph.store.urls import make_engine, parse_url

ROOT = Path(__file__).parent.parent.parent
NOT_COMPARED = {
    "run_id", "thread_id", "created_at", "updated_at", "seconds", "lease_owner", "lease_seen_at",
}  # fmt: skip
JSON_COLUMNS = {"conversation", "settings", "launch", "columns"}


def respond(messages: list[dict[str, Any]], seed: int | None, index: int) -> str:
    """What the fake model says: it depends on all that was asked, as of a server that has seeds."""
    prompt = messages[-1]["content"]
    said = f"{sum(map(ord, prompt)) % 9973} {(seed or 0) % 997} {index} " + "x" * (len(prompt) % 13)
    if "</improved_answer>" in prompt:
        return f"<improved_answer>better {said}</improved_answer>"
    return f"critique {said}" if "<chosen_answer>" in prompt else f"answer {said}"


@dataclass
class End:
    """How one process ended."""

    status: int
    events: list[str]
    """What it saw, the last one being where it died if it was told to die at one."""
    output: str

    @property
    def between_nodes(self) -> bool:
        """Whether it died with the latest node's checkpoint stored, and no other node begun."""
        return self.events[-1:] == ["put:after"]


@dataclass
class Launcher:
    """`tests.kills.launcher` as a process; a context manager."""

    environment: dict[str, str]
    folder: Path
    _process: subprocess.Popen[str] = field(init=False)

    def __enter__(self) -> Self:
        with (self.folder / "stderr.txt").open("w") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.kills.launcher"],
                cwd=ROOT,
                env={**os.environ, **self.environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def tpo(
        self,
        *arguments: str,
        die_at: int | None = None,
        when: Callable[[], bool] | None = None,
        later: float = 0.0,
        with_signal: int = signal.SIGKILL,
    ) -> End:
        """Run `tpo`, and kill it at its nth event, or so many seconds after `when` came true."""
        log = self.folder / "events.txt"
        log.write_text("")
        order = {"arguments": arguments, "log": str(log), "die_at": die_at}
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(json.dumps(order) + "\n")
        stdin.flush()
        process = int(stdout.readline())
        if when is not None:
            with suppress(ProcessLookupError):  # it was faster
                while not when():
                    os.kill(process, 0)
                    time.sleep(0.005)
                time.sleep(later)
                os.kill(process, with_signal)
        said: list[str] = []
        while not (line := stdout.readline()).strip().lstrip("-").isdigit():
            said.append(line)
        events = log.read_text().splitlines()
        return End(int(line), events, "".join(said))


def identity(call: Call) -> str:
    """What was asked: two calls of one identity are one call paid for twice."""
    return json.dumps([call.messages, call.params.get("seed"), call.params.get("n")])


def finished(server: OpenAIServer, since: int = 0) -> Counter[str]:
    """How often each call was answered in full."""
    return Counter(identity(call) for call in server.calls[since:] if call.ended is not None)


@contextmanager
def connected(url: str) -> Generator[Connection]:
    """A connection that is gone afterwards."""
    engine = make_engine(parse_url(url))
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def rows(url: str) -> dict[str, list[dict[str, Any]]]:
    """Every row of our tables, without what is different each time."""
    with connected(url) as connection:
        return {
            table: sorted(_comparable(connection, table), key=repr)
            for table in inspect(connection).get_table_names()
            if table.startswith("tpo_") and table != "tpo_alembic_version"
        }


def _comparable(connection: Connection, table: str) -> list[dict[str, Any]]:
    found = connection.execute(text(f"SELECT * FROM {table}")).mappings().all()
    plain = [{k: v for k, v in row.items() if k not in NOT_COMPARED} for row in found]
    for row in plain:
        for name in JSON_COLUMNS & row.keys():
            row[name] = json.loads(row[name]) if isinstance(row[name], str) else row[name]
    return plain


def checkpoints(url: str) -> list[str]:
    """Threads of all of LangGraph's checkpoints."""
    with connected(url) as connection:
        return list(connection.scalars(text("SELECT thread_id FROM checkpoints")))


def threads(url: str) -> list[str]:
    """Threads that the runs say they have."""
    with connected(url) as connection:
        return list(connection.scalars(text("SELECT thread_id FROM tpo_runs")))


def run_ids(url: str) -> list[str]:
    """Runs that are stored; none when there are no tables yet."""
    with connected(url) as connection:
        if not inspect(connection).has_table("tpo_runs"):
            return []
        return list(connection.scalars(text("SELECT run_id FROM tpo_runs")))


def wipe(url: str) -> None:
    """Delete all rows of a PostgreSQL database, LangGraph's too."""
    ours = "tpo_batches, tpo_runs, tpo_rewards"
    with connected(url) as connection:
        tables = f"{ours}, checkpoints, checkpoint_blobs, checkpoint_writes"
        connection.execute(text(f"TRUNCATE {tables} CASCADE"))
