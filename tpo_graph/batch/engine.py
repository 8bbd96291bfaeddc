"""What runs the rows of a batch: in this process, or (another `Engine`) on a cluster.

`job.py` says which rows to run; an engine starts each one's run in the database, or takes it
up where it stopped, and tells how it ended. Results stay in the database.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping, Sized
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from tpo_graph.batch.steps import StepReporter
from tpo_graph.concurrency.in_flight import Flight, InFlight, is_overload, run_all
from tpo_graph.concurrency.outages import WAIT_SECONDS, ServerWait, gave_up, may_pass, waiting
from tpo_graph.context import TPOContext
from tpo_graph.conversation import Turn, from_turns
from tpo_graph.errors import (
    ConfigurationError,
    RunBusyError,
    RunNotFoundError,
    StoreError,
    error_line,
)
from tpo_graph.session.session import Session
from tpo_graph.usage import Ledger, Usage


@dataclass(frozen=True)
class Job:
    """One row to run."""

    position: int
    """Its place in the input."""
    run_id: str
    """What its run is called; stored already if it was started before."""
    conversation: list[Turn]
    settings: dict[str, Any]
    """The row's complete `TPOContext`, as plain values."""
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Those of `settings` that a run which is stored already gets, too."""


@dataclass(frozen=True)
class Done:
    """How a job ended. With neither an error nor a stop reason it has not: `control` stopped it, a
    model server was away for too long, or another process works on its run."""

    position: int
    error: str | None = None
    """One line; what became of the run is in the database either way."""
    may_pass: bool = False
    """Whether the error may not come again: it is not the input's."""
    away: str | None = None
    """Why a model server is not waited for any more: the batch is to stop."""
    reward: float | None = None
    first_best: float | None = None
    """Reward of the best first sample."""
    stop_reason: str | None = None
    usage: Ledger = field(default_factory=dict[str, Usage])
    """Of the whole run, earlier processes' part included."""


class Engine(Protocol):
    """Runs jobs, as many at once as it has room for. It is given its models and its database.

    A job's run is started under its `run_id`, or resumed if that is stored: whoever calls again
    after a crash pays for no finished step twice.
    """

    def run(self, jobs: Iterable[Job], *, control: RunControl) -> AsyncGenerator[Done]:
        """Run the jobs; tell of each as it ends, in any order.

        An error of one job ends that one alone. Closing the generator stops what is in flight.

        Args:
            jobs: taken one by one, as there is room; `Sized` where their number is known.
            control: its `request_drain()` stops all runs before their next steps; no more jobs
                are taken then.

        Raises:
            StoreError: the database failed; what was committed is intact.
        """
        ...


class LocalEngine:
    """An `Engine` in this process: one graph, one HTTP client, one store.

    Args:
        session: an open one, with a store.
        width: samples that most jobs ask for at a time.
        max_in_flight: maximum concurrent runs; None tunes it, as `optimize_many` does.
        wait_for_server: seconds that a model server may be away.
        on_wait: called with what `ServerWait.said` says, whenever that may have changed.
    """

    def __init__(
        self,
        session: Session,
        width: int,
        max_in_flight: int | None = None,
        *,
        wait_for_server: float = WAIT_SECONDS,
        on_wait: Callable[[str | None], None] | None = None,
    ) -> None:
        self._session = session
        self._width = width
        self._max_in_flight = need_positive(max_in_flight)
        self._wait_for_server = wait_for_server
        self._on_wait = on_wait

    async def run(self, jobs: Iterable[Job], *, control: RunControl) -> AsyncGenerator[Done]:
        """See `Engine.run`."""
        limits = self._width, self._max_in_flight, self._wait_for_server
        in_flight, wait = awaited(*limits, control=control, on_wait=self._on_wait)
        run = partial(run_job, self._session, wait, control)
        async with aclosing(run_jobs(jobs, in_flight, control, run)) as ends:
            async for end in ends:
                yield end


async def run_jobs(
    jobs: Iterable[Job],
    in_flight: InFlight,
    control: RunControl,
    run: Callable[[Job, Flight], Awaitable[Done]],
) -> AsyncGenerator[Done]:
    """How each job ended, as it ends; what `run` raises ends all."""

    def taken() -> Iterator[Callable[[Flight], Awaitable[Done]]]:
        for job in jobs:
            if control.drain_requested:
                return
            yield partial(run, job)

    total = len(jobs) if isinstance(jobs, Sized) else None
    async with aclosing(run_all(taken(), in_flight, total)) as outcomes:
        async for _, outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome


async def run_job(
    session: Session, wait: ServerWait, control: RunControl, job: Job, flight: Flight
) -> Done:
    """Run or resume one job; a model server that is away is waited for.

    Raises:
        StoreError: the database failed, which the other jobs need too.
    """
    try:
        context = TPOContext.checked(job.settings)
        with waiting(wait):
            outcome = await session.run_or_resume(
                from_turns(job.conversation),
                context,
                job.run_id,
                on_task=StepReporter(flight, context.width),
                control=control,
                limits=job.limits,
            )
    except Exception as error:
        if is_overload(error):
            flight.overloaded()
        return _failed(job.position, error)
    return Done(
        job.position,
        error=outcome.error or (outcome.audit_error and f"audit: {outcome.audit_error}"),
        may_pass=outcome.may_pass,
        reward=outcome.reward,
        first_best=outcome.first_best,
        stop_reason=outcome.stop_reason,
        usage=outcome.usage,
    )


def _failed(position: int, error: Exception) -> Done:
    if isinstance(error, GraphDrained | RunBusyError):
        return Done(position)
    if isinstance(error, StoreError) and not isinstance(error, RunNotFoundError):
        raise error
    if (away := gave_up(error)) is not None:
        return Done(position, away=error_line(away))
    return Done(position, error=error_line(error), may_pass=may_pass(error))


def need_positive(max_in_flight: int | None) -> int | None:
    """The limit of runs in flight."""
    if max_in_flight is not None and max_in_flight < 1:
        raise ConfigurationError(f"max_in_flight={max_in_flight!r} must be at least 1, or None")
    return max_in_flight


def awaited(
    width: int,
    max_in_flight: int | None,
    wait_for_server: float,
    *,
    control: RunControl | None = None,
    on_wait: Callable[[str | None], None] | None = None,
) -> tuple[InFlight, ServerWait]:
    """What is in flight, and the patience it is flown with: no job starts while a server is away.

    Args:
        width, max_in_flight, wait_for_server, on_wait: as in `LocalEngine`.
        control: waiting ends when it asks for a stop.
    """

    def changed(error: Exception | None) -> None:
        if is_overload(error):
            in_flight.knee.overloaded()
        in_flight.change(0)
        if on_wait is not None:
            on_wait(wait.said())

    stopping = control or RunControl()
    wait = ServerWait(wait_for_server, stopping=lambda: stopping.drain_requested, on_change=changed)
    in_flight = InFlight(width, max_in_flight, paused=lambda: wait.away)
    return in_flight, wait
