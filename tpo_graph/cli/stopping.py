"""SIGINT and SIGTERM while something is being kept: stop before the next step, say how to go on."""

import logging
import shlex
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

import click
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from tpo_graph.store.urls import parse_url, shown


@contextmanager
def stoppable(again: str | None) -> Generator[RunControl]:
    """Let a signal end what runs at the next node boundary, and the process with 130 or 143.

    What was stopped before its end raises `GraphDrained`. A second signal ends it at once; what the
    steps under way have paid for is then lost.

    Args:
        again: the command to go on with. None: nothing is kept that could be gone on with, and
            signals keep their usual meaning.
    """
    control = RunControl()
    if again is None or threading.current_thread() is not threading.main_thread():
        yield control
        return
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        control.request_drain(signal.Signals(number).name)
        click.echo("Finishing the current step… Press Ctrl-C again to stop immediately.", err=True)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield control
    except (GraphDrained, KeyboardInterrupt) as e:
        if isinstance(e, KeyboardInterrupt):
            # What runs in the background is torn down with the process, and would say so at length.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
        click.echo(f"Stopped. Resume with: {again}", err=True)
        sys.exit(128 + (received[0] if received else signal.SIGINT))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def resume_command(run_id: str, database: str | None) -> str | None:
    """The command that goes on with a run; None when it is not kept."""
    if database is None:
        return None
    return f"tpo runs resume {run_id} --database {shown(parse_url(database))}"


def same_command() -> str:
    """The command of this process, but for `--fresh`, which would begin anew."""
    return shlex.join(["tpo", *(word for word in sys.argv[1:] if word != "--fresh")])
