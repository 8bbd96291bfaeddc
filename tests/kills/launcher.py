"""Start `tpo` over and over, fast: a process that has imported everything and forks one per line.

Reads a JSON object per line on standard input: {"arguments", "log", "die_at"}. Answers with the
child's process id, and, once it has ended, with its exit status (negative: the signal).

`die_at` makes the child kill itself at its nth event: before and after each `record` of the cache,
each commit of rows (`write`), and all that LangGraph's saver commits (`writes`, `put`, `delete`).
The reward model "local:length" is a fake: the length of the response.
"""

import contextlib
import gc
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import langchain_openai  # noqa: F401  (imported here once instead of in every child)
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

import tpo_graph.batch.job
import tpo_graph.batch.output
import tpo_graph.cli.batch_progress
import tpo_graph.cli.display
import tpo_graph.cli.stopping
import tpo_graph.session.resume
import tpo_graph.session.run  # noqa: F401
from tpo_graph.cli import main
from tpo_graph.rewards import load
from tpo_graph.rewards.function import FunctionReward
from tpo_graph.store.cache import SqlCache
from tpo_graph.store.writer import Writer
from tpo_graph.testing import prefer_longer


class Events:
    """Counts what is written, and kills this process where it is told to."""

    def __init__(self, log: Path, die_at: int | None) -> None:
        self.log = log
        self.die_at = die_at
        self.count = 0

    def watch(self, owner: type, name: str, label: str) -> None:
        """Make calls of a method events."""
        method: Callable[..., Any] = getattr(owner, name)

        async def watched(*arguments: Any, **options: Any) -> Any:
            self.happens(f"{label}:before")
            result = await method(*arguments, **options)
            self.happens(f"{label}:after")
            return result

        setattr(owner, name, watched)

    def happens(self, name: str) -> None:
        self.count += 1
        with self.log.open("a") as file:
            file.write(f"{name}\n")
        if self.count == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)


def child(arguments: list[str], log: str, die_at: int | None) -> None:
    """Be `tpo` with these arguments."""
    events = Events(Path(log), die_at)
    events.watch(SqlCache, "record", "record")
    events.watch(Writer, "write", "write")
    events.watch(Writer, "run", "write")
    for saver in (AsyncSqliteSaver, AsyncPostgresSaver):
        events.watch(saver, "aput_writes", "writes")
        events.watch(saver, "aput", "put")
        events.watch(saver, "adelete_thread", "delete")
    sys.argv = ["tpo", *arguments]
    main()


def serve() -> None:
    """Fork a child per line of standard input."""
    load.load_reward_model = lambda name: FunctionReward(prefer_longer)
    gc.freeze()
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            status = 70
            try:
                child(**json.loads(line))
            except SystemExit as end:
                status = 0 if end.code is None else int(end.code)
            finally:
                with contextlib.suppress(Exception):
                    sys.stdout.flush()
                os._exit(status)
        print(process, flush=True)
        _, state = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(state), flush=True)


if __name__ == "__main__":
    serve()
