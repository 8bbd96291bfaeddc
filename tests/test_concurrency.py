"""Jobs in flight: order, room, errors; and the limit that is found, on a simulated server."""

import asyncio
import gc
import statistics
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing

import pytest

from benchmarks.engine import Engine, Latency
from benchmarks.simulated_model import Replies
from benchmarks.virtual_time import run_in_virtual_time
from tpo_graph.concurrency.in_flight import Flight, InFlight, run_all
from tpo_graph.concurrency.knee import START, Knee
from tpo_graph.concurrency.shielded import shielded

Job = Callable[[Flight], Awaitable[int]]


def sleeper(number: int, log: list[str], seconds: float = 1.0) -> Job:
    async def job(flight: Flight) -> int:
        log.append(f"+{number}")
        await asyncio.sleep(seconds)
        log.append(f"-{number}")
        return number

    return job


async def collect(jobs, in_flight, total=None):
    return [outcome async for outcome in run_all(jobs, in_flight, total)]


def test_a_job_starts_when_another_has_ended_and_no_later():
    async def main():
        log: list[str] = []
        jobs = [sleeper(n, log, seconds) for n, seconds in enumerate([3.0, 1.0, 1.0, 1.0, 1.0])]
        return log, await collect(jobs, InFlight(max_jobs=2))

    log, outcomes = run_in_virtual_time(main())
    assert log == ["+0", "+1", "-1", "+2", "-2", "+3", "-0", "+4", "-3", "-4"] or (
        sorted(log) == sorted(f"{sign}{n}" for sign in "+-" for n in range(5))
        and log[:5] == ["+0", "+1", "-1", "+2", "-2"]
    )
    assert sorted(outcomes) == [(n, n) for n in range(5)]


async def test_an_error_stays_with_its_own_job():
    async def fails(flight: Flight) -> int:
        raise ValueError("no")

    log: list[str] = []
    jobs = [sleeper(0, log, 0), fails, sleeper(2, log, 0)]
    outcomes = dict(await collect(jobs, InFlight(max_jobs=1)))
    assert outcomes[0] == 0
    assert outcomes[2] == 2
    assert isinstance(outcomes[1], ValueError)


async def test_leaving_early_cancels_what_is_in_flight():
    log: list[str] = []
    in_flight = InFlight(max_jobs=3)
    outcomes = run_all([sleeper(n, log, 0 if n == 0 else 60) for n in range(9)], in_flight, 9)
    async with aclosing(outcomes):
        async for _ in outcomes:
            break
    assert in_flight.jobs == 0
    assert in_flight.work == 0
    assert "-1" not in log


async def test_jobs_are_taken_as_there_is_room_and_their_source_may_fail():
    taken: list[int] = []

    def source() -> Iterator[Job]:
        for number in range(4):
            taken.append(number)
            yield sleeper(number, [], 0)
        raise OSError("the file ends in the middle of a line")

    outcomes: list[object] = []

    async def read() -> None:
        async for outcome in run_all(source(), InFlight(max_jobs=1)):
            assert len(taken) <= len(outcomes) + 2
            outcomes.append(outcome)

    with pytest.raises(OSError, match="the middle of a line"):
        await read()
    assert len(outcomes) == 4


async def test_an_overloaded_server_gets_less():
    class TooManyError(Exception):
        status_code = 429

    class BadRequestError(Exception):
        status_code = 400

    def failing(cause: Exception) -> Job:
        async def job(flight: Flight) -> int:
            raise RuntimeError("the policy failed") from cause

        return job

    in_flight = InFlight(width=5)
    await collect([failing(BadRequestError())], in_flight)
    assert in_flight.knee.limit == START
    await collect([failing(TooManyError())], in_flight)
    assert in_flight.knee.limit < START


def rewriting(engine: Engine, replies: Replies, times: list[float]) -> Job:
    """The calls of a D2-N5 query: five samples, then twice one, one and five."""

    async def job(flight: Flight) -> int:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for samples in (5, 1, 1, 5, 1, 1, 5):
            flight.step(max(2, samples))
            lengths = replies.lengths(samples)
            await engine.generate("", [replies.text(length) for length in lengths])
            flight.replied(max(lengths))
        times.append(loop.time() - began)
        return 0

    return job


async def batch(latency: Latency, jobs: int, max_jobs: int | None) -> tuple[float, float, float]:
    """(wall time over the work bound, median latency of a job, the limit when the last began)."""
    engine, replies, times = Engine(latency), Replies(), list[float]()
    in_flight = InFlight(5, max_jobs)
    limits: list[float] = []

    def source() -> Iterator[Job]:
        for _ in range(jobs):
            limits.append(in_flight.knee.limit)
            yield rewriting(engine, replies, times)

    loop = asyncio.get_running_loop()
    began = loop.time()
    await collect(source(), in_flight)
    wall = loop.time() - began
    return wall / engine.totals.seconds(latency), statistics.median(times), limits[-1]


@pytest.mark.parametrize("slots", [16, 64])
def test_the_knee_is_found_from_above_and_from_below(slots: int):
    latency = Latency(slots=slots, step=0.02, per_sequence=0.02 / slots / 3, prefill=1e9)
    alone = run_in_virtual_time(batch(latency, 8, 1))[1]
    bound, median, limit = run_in_virtual_time(batch(latency, 8 * slots, None))
    assert bound < 1.12
    assert median < 2.2 * alone
    everything_at_once = run_in_virtual_time(batch(latency, 8 * slots, 8 * slots))
    assert median < everything_at_once[1] / 3
    assert slots < limit < 3 * slots


def test_a_server_that_slows_down_instead_of_queueing_is_not_swamped():
    latency = Latency(slots=10_000, step=0.001, per_sequence=0.001, prefill=1e9)
    limit = run_in_virtual_time(batch(latency, 300, None))[2]
    assert limit < 3 * START  # 1,500 would be all of them


def test_a_slow_reward_model_holds_runs_back():
    async def main() -> int:
        engine = Engine(Latency(slots=1000, step=0.001, per_sequence=0, prefill=1e9))
        scorer = asyncio.Lock()
        replies = Replies()
        most = 0

        async def job(flight: Flight) -> int:
            nonlocal most
            for _ in range(3):
                most = max(most, in_flight.jobs) if warm.is_set() else 0
                flight.step(5)
                lengths = replies.lengths(5)
                await engine.generate("", [replies.text(length) for length in lengths])
                flight.replied(max(lengths))
                flight.step(5)
                async with scorer:
                    await asyncio.sleep(1.0)
                flight.scored(5)
            warm.set()
            return 0

        warm = asyncio.Event()
        in_flight = InFlight(5)
        await collect([job] * 300, in_flight)
        return most

    assert run_in_virtual_time(main()) < 100


def test_replies_of_one_length_bound_what_is_in_flight_too():
    knee = Knee()
    for _ in range(12):
        work = knee.limit  # whatever is in flight shares one processor: time grows with it
        for _ in range(round(work)):
            knee.add_reply(0.001 * work, 10.0, work, 1 / work, round(work))
    assert START / 2 < knee.limit < 10 * START


async def test_work_that_goes_on_without_its_caller_fails_in_silence(
    caplog: pytest.LogCaptureFixture,
):
    go = asyncio.Event()

    async def fails() -> None:
        await go.wait()
        raise OSError("the disk is full")

    caller = asyncio.create_task(shielded(fails()))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go.set()
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert "never retrieved" not in caplog.text
    with pytest.raises(OSError, match="full"):  # whoever still waits is told
        await shielded(fails())
