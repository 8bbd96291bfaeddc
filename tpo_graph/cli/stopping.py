"""SIGINT and SIGTERM while a run is being kept: stop before the next step, say how to go on."""

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
def stoppable(run_id: str, database: str | None) -> Generator[RunControl]:
    """Let a signal end the run at the next node boundary, and the process with 130 or 143.

    A second signal ends it at once; what the step under way has paid for is then lost. Without a
    database nothing could be resumed, and signals keep their usual meaning.
    """
    control = RunControl()
    if database is None or threading.current_thread() is not threading.main_thread():
        yield control
        return
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        control.request_drain(signal.Signals(number).name)
        click.echo("Stopping when this step is done; once more to stop at once.", err=True)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield control
    except (GraphDrained, KeyboardInterrupt):
        where = shown(parse_url(database))
        click.echo(f"Stopped. Go on with: tpo runs resume {run_id} --database {where}", err=True)
        sys.exit(128 + (received[0] if received else signal.SIGINT))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
