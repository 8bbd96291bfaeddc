"""Run a program for one response: input, output, a time limit, and nothing left running."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from tempfile import TemporaryFile
from typing import NamedTuple

_MOST_OUTPUT = 1 << 20
"""Bytes that are read of what a program prints."""


class Finished(NamedTuple):
    """What a program did."""

    status: int | None
    """Exit status, negative for a signal; None when it was stopped at the time limit."""
    output: str
    errors: str


async def run_program(
    arguments: Sequence[str],
    given: bytes,
    *,
    timeout: float,  # noqa: ASYNC109 - the program's, which is killed by it
    environment: Mapping[str, str] | None = None,
    folder: str | None = None,
) -> Finished:
    """Run a program in a process group of its own, which is killed when it is done, at the time
    limit and when the call is cancelled.

    No shell reads the arguments. `environment` is all of its environment; None: this process's.

    Raises:
        OSError: it cannot be started.
    """
    group = _Group()
    running = asyncio.to_thread(_run, group, list(arguments), given, timeout, environment, folder)
    try:
        return await running
    except asyncio.CancelledError:
        group.kill()
        raise


class _Group:
    """A process and all that it starts."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.over = False

    def kill(self) -> None:
        self.over = True
        if self.process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)


def _run(
    group: _Group,
    arguments: list[str],
    given: bytes,
    timeout: float,
    environment: Mapping[str, str] | None,
    folder: str | None,
) -> Finished:
    # Files and not pipes: a pipe stays open as long as anything holds it that the program started.
    with TemporaryFile() as stdin, TemporaryFile() as stdout, TemporaryFile() as stderr:
        stdin.write(given)
        stdin.seek(0)
        with subprocess.Popen(
            arguments,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            cwd=folder,
            start_new_session=True,
        ) as process:
            group.process = process
            if group.over:  # cancelled meanwhile
                group.kill()
            status: int | None = None
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                pass
            finally:
                group.kill()
        group.process = None
        texts: list[str] = []
        for file in (stdout, stderr):
            file.seek(0)
            texts.append(file.read(_MOST_OUTPUT).decode("utf-8", "replace"))
    return Finished(status, *texts)
