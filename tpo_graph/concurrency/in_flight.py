"""Many jobs at once: how many, in which order, and what becomes of their errors.

A job starts when there is room for it and then goes through without being held up again: what was
started is finished before more is begun, and nothing ever waits here with its clock running. Room
is what the caller said, or what `knee.py` measures.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TypeVar

from tpo_graph.concurrency.knee import Knee
from tpo_graph.errors import causes

T = TypeVar("T")

_LAST = 0.4
"""When no more jobs than this part of those in flight remain, they start: the server would run
half empty otherwise while the last ones go through step by step."""
_UNCLAIMED = 1000
"""Outcomes that may wait for whoever reads them before no more jobs are started."""


class InFlight:
    """What is in flight at one server, and whether there is room for more.

    Args:
        width: samples that a job asks for at a time; what a job not yet heard of counts as.
        max_jobs: how many jobs at once; None lets `knee.Knee` decide by what their steps tell.
        paused: whether no job may start for the time being; `change` says when that may differ.
    """

    def __init__(
        self,
        width: int = 1,
        max_jobs: int | None = None,
        paused: Callable[[], bool] = lambda: False,
    ) -> None:
        self.jobs = 0
        self.work = 0.0
        """Samples in flight, or about to be."""
        self.knee = Knee()
        self._width = width
        self._max_jobs = max_jobs
        self._paused = paused
        self._loop = asyncio.get_running_loop()
        self._integral, self._seen = 0.0, self._loop.time()
        self._changed = asyncio.Event()

    def has_room(self, remaining: int | None = None) -> bool:
        """Whether one more job may start.

        Args:
            remaining: how many there are still to start, if that is known.
        """
        if self._paused():
            return False
        if self._max_jobs is not None:
            return self.jobs < self._max_jobs
        last = remaining is not None and remaining <= _LAST * self.jobs
        return self.jobs == 0 or last or self.work + self._width <= self.knee.limit

    async def room(self, remaining: int | None = None) -> None:
        """Wait until one more job may start."""
        while not self.has_room(remaining):
            self._changed.clear()
            await self._changed.wait()

    def begin(self) -> "Flight":
        """One more job is in flight."""
        self.jobs += 1
        return Flight(self, self._width)

    def work_seconds(self) -> float:
        """The integral of `work` over time so far."""
        now = self._loop.time()
        self._integral += self.work * (now - self._seen)
        self._seen = now
        return self._integral

    def change(self, work: float, jobs: int = 0) -> None:
        """Count work and jobs that came or went."""
        self.work_seconds()
        self.work += work
        self.jobs += jobs
        self._changed.set()

    def now(self) -> float:
        """Seconds on the event loop's clock."""
        return self._loop.time()


class Flight:
    """One job's account of itself. It may say nothing; then it counts as `width` all the time."""

    def __init__(self, in_flight: InFlight, width: int) -> None:
        self._all = in_flight
        self._weight = 0.0
        self._begun = in_flight.now()
        self._integral = 0.0
        self._weigh(width)

    def step(self, weight: float) -> None:
        """A step begins that keeps that many samples (or responses to score) in flight."""
        self._weigh(weight)
        self._begun, self._integral = self._all.now(), self._all.work_seconds()

    def replied(self, length: float) -> None:
        """The step ends: a model call whose longest reply has that many tokens."""
        seconds, work, part = self._ended()
        if seconds > 0 and length > 0:
            self._all.knee.add_reply(seconds, length, work, part, self._all.jobs)
            self._all.change(0)

    def scored(self, responses: int) -> None:
        """The step ends: the reward model has scored that many responses."""
        seconds, work, part = self._ended()
        if seconds > 0 and responses > 0:
            self._all.knee.add_scores(seconds, responses, work, part, self._all.jobs)
            self._all.change(0)

    def overloaded(self) -> None:
        """The server refused a call of the job for want of room, or let it time out."""
        self._all.knee.overloaded()

    def end(self) -> None:
        """The job has ended."""
        self._all.change(-self._weight, -1)

    def _weigh(self, weight: float) -> None:
        self._all.change(weight - self._weight)
        self._weight = weight

    def _ended(self) -> tuple[float, float, float]:
        """(seconds of the step, samples in flight meanwhile, this one's part of those now)."""
        seconds = self._all.now() - self._begun
        work = (self._all.work_seconds() - self._integral) / seconds if seconds > 0 else 0.0
        return seconds, work, self._weight / max(self._all.work, 1.0)


async def run_all(
    jobs: Iterable[Callable[[Flight], Awaitable[T]]], in_flight: InFlight, total: int | None = None
) -> AsyncGenerator[tuple[int, T | Exception]]:
    """Run jobs side by side; (position, result or error) of each as it ends.

    An error ends its own job alone. Closing the generator cancels what is in flight.

    Args:
        jobs: taken one by one, each when there is room for it.
        in_flight: where they report; `Flight.end` is called for them.
        total: how many there are, if that is known.
    """
    outcomes: asyncio.Queue[tuple[int, T | Exception] | None] = asyncio.Queue()
    claimed = asyncio.Event()
    running: set[asyncio.Task[None]] = set()

    async def run(position: int, job: Callable[[Flight], Awaitable[T]], flight: Flight) -> None:
        try:
            outcomes.put_nowait((position, await job(flight)))
        except Exception as error:
            if is_overload(error):
                flight.overloaded()
            outcomes.put_nowait((position, error))
        finally:
            flight.end()

    async def start() -> None:
        remaining = total
        source = enumerate(jobs)
        try:
            while remaining != 0:
                await in_flight.room(remaining)
                while outcomes.qsize() >= _UNCLAIMED:
                    claimed.clear()
                    await claimed.wait()
                if (taken := next(source, None)) is None:
                    break
                task = asyncio.create_task(run(*taken, in_flight.begin()))
                running.add(task)
                task.add_done_callback(running.discard)
                remaining = None if remaining is None else remaining - 1
        finally:
            while running:
                await asyncio.wait(running)

    starting = asyncio.create_task(start())
    starting.add_done_callback(lambda _: outcomes.put_nowait(None))
    try:
        while (outcome := await outcomes.get()) is not None:
            claimed.set()
            yield outcome
        await starting  # an error of the iterable itself
    finally:
        for task in (left := [starting, *running]):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


def is_overload(error: BaseException | None) -> bool:
    """Whether a server said that it is asked too much, or did not answer in time."""
    return any(
        "timeout" in type(cause).__name__.lower()
        or getattr(cause, "status_code", None) in (408, 429, 503, 529)
        for cause in causes(error)
    )
