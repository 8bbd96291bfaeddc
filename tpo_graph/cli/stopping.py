"""SIGINT and SIGTERM while runs are kept: stop before the next step, say how to resume."""

import json
import logging
import shlex
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType

from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from tpo_graph.cli.output import say
from tpo_graph.redaction import has_hidden, redacted
from tpo_graph.store.urls import parse_url, shown

_LATE = "Calls that took longer than {:g} s were cut off and are made again."


@contextmanager
def stoppable(again: str | None, grace: float = 10.0) -> Generator[RunControl]:
    """Let a signal end what runs at the next node boundary, and the process with 130 or 143.

    What was stopped before its end raises `GraphDrained`. A second signal, or the end of the grace
    period, stops the calls in flight; every finished step is kept, and they alone are made again.

    Args:
        grace: seconds that the calls in flight may still take.
        again: the command that resumes. None: nothing is kept that could be resumed, and signals
            keep their usual meaning.
    """
    control = RunControl()
    if again is None or threading.current_thread() is not threading.main_thread():
        yield control
        return
    received: list[int] = []
    late = threading.Event()

    def give_up() -> None:
        # A server that stalls must not hold the process until a service manager kills it.
        late.set()
        signal.pthread_kill(main, signal.SIGINT)

    main = threading.get_ident()
    timer = threading.Timer(grace, give_up)
    timer.daemon = True

    def stop(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        control.request_drain(signal.Signals(number).name)
        say(
            f"Finishing the calls in flight, for up to {grace:g} s (--grace); finished steps are "
            "kept. Press Ctrl-C again to stop immediately.",
        )
        timer.start()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield control
    except (GraphDrained, KeyboardInterrupt) as e:
        if isinstance(e, KeyboardInterrupt):
            # What runs in the background is torn down with the process, and would say so at length.
            logging.getLogger("asyncio").setLevel(logging.CRITICAL + 1)
        cut = f" {_LATE.format(grace)}" if late.is_set() else ""
        say(f"Stopped.{cut} Resume with: {again}")
        sys.exit(128 + (received[0] if received else signal.SIGINT))
    finally:
        timer.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def resume_command(run_id: str, database: str | None, **specs: str | None) -> str | None:
    """The command that resumes a run; None when it is not kept.

    Args:
        specs: the names of its models, by role; those with a secret must be given again.
    """
    if database is None:
        return None
    words = ["tpo", "runs", "resume", run_id, "--database", shown(parse_url(database))]
    for role, spec in specs.items():
        if has_hidden(hidden := redacted(spec)):
            words += [f"--{role.replace('_', '-')}", hidden]
    return shlex.join(words)


def same_command() -> str:
    """The command of this process, redacted, and without `--fresh`, which would start over."""
    return shlex.join(["tpo", *(_shown(word) for word in sys.argv[1:] if word != "--fresh")])


def _shown(word: str) -> str:
    before, brace, _ = word.partition("{")
    if brace and (not before or before.endswith("=")):
        with suppress(ValueError):
            return before + json.dumps(redacted(json.loads(word[len(before) :])))
    return redacted(word)
