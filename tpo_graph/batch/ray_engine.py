"""`RayEngine`: jobs on a Ray cluster. Workers run them, a pool of actors scores, a database keeps.

This side hands jobs to workers that have room and passes on how they ended. What a worker that dies
had in hand is handed out again, and resumes from the database where it stopped.
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence, Sized
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

from langgraph.runtime import RunControl

from tpo_graph.batch.engine import Done, Job
from tpo_graph.batch.ray_cluster import Cluster, connected
from tpo_graph.batch.ray_worker import Orders
from tpo_graph.concurrency.outages import WAIT_SECONDS
from tpo_graph.errors import ConfigurationError, TPOError
from tpo_graph.models.connection import ROLES
from tpo_graph.session.setup import Setup, StoredInputs, spelled_out
from tpo_graph.store.urls import parse_url

_DEATHS = 4
"""Workers that may die with a job in hand before the job is given up: it may be what kills them."""
_DRAIN_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class _Handed:
    """A job, and how many workers have died with it in hand."""

    job: Job
    deaths: int = 0


class RayEngine:
    """An `Engine` whose jobs run on a Ray cluster.

    Policy workers are async actors that open the database themselves and ask the policy's server;
    the reward model is a pool of actors of its own. All that they are told must mean the same on
    every node: models are given by name, a file by a path that every node has, and a database that
    several machines can reach.

    Args:
        database: the URL.
        width: samples that most jobs ask for at a time.
        max_in_flight: how many runs at once, on all workers together; None lets each find out.
        wait_for_server: seconds that a model server may be away; each worker waits for itself.
        cluster: where, and how many actors of what size.
        inputs: as in `aoptimize`, but names only. The auditor is loaded in every worker.

    Raises:
        ConfigurationError: an object is given instead of a name, or a number is out of bounds.
    """

    @spelled_out
    def __init__(
        self,
        database: str,
        *,
        width: int = 5,
        max_in_flight: int | None = None,
        wait_for_server: float = WAIT_SECONDS,
        cluster: Cluster | None = None,
        **inputs: Unpack[StoredInputs],
    ) -> None:
        setup, _ = Setup.given(inputs, database=database)
        for what in (*ROLES, "prompts", "database"):
            _must_be_name(what, getattr(setup, what))
        self._database = _absolute(database)
        self._setup = replace(setup, database=self._database)
        if max_in_flight is not None and max_in_flight < 1:
            raise ConfigurationError(f"max_in_flight={max_in_flight!r} must be at least 1, or None")
        self._width = width
        self._max_in_flight = max_in_flight
        self._wait_for_server = wait_for_server
        self._cluster = cluster or Cluster()

    async def run(self, jobs: Iterable[Job], *, control: RunControl) -> AsyncGenerator[Done]:
        """See `Engine.run`.

        Raises:
            ConfigurationError: Ray is missing or cannot be reached, the cluster has no room for
                the actors, or they cannot load what is named.
            StoreError: the database failed.
        """
        source = iter(jobs)
        remaining = len(jobs) if isinstance(jobs, Sized) else None
        if remaining == 0:
            return
        async with connected(self._cluster, self._database) as actors:
            pool, name = await actors.reward_pool(str(self._setup.reward_model))
            workers = await actors.workers(self._orders(pool, name, actors.worker_count))
            handing = _Handing(source, remaining, workers, control, self._max_in_flight)
            ended = handing.run()
            try:
                async for one in ended:
                    yield one
            finally:
                await ended.aclose()

    def _orders(self, pool: Sequence[str], reward_name: str, workers: int) -> Orders:
        limit = self._max_in_flight
        return Orders(
            setup=self._setup,
            reward_name=reward_name,
            reward_actors=pool,
            width=self._width,
            max_in_flight=None if limit is None else -(-limit // workers),
            wait_for_server=self._wait_for_server,
            folder=os.getcwd(),
            environment=self._cluster.carried(),
        )


class _Handing:
    """Hands out one call's jobs, and takes them back from workers that die."""

    def __init__(
        self,
        source: Any,
        remaining: int | None,
        workers: Sequence[Any],
        control: RunControl,
        limit: int | None,
    ) -> None:
        self._source = source
        self._remaining = remaining
        self._workers = workers
        self._control = control
        self._limit = limit
        self._returned: deque[_Handed] = deque()
        self._in_hand = 0
        self._changed = asyncio.Condition()
        self._ended: asyncio.Queue[Done | Exception | None] = asyncio.Queue()
        self._runs: set[asyncio.Task[None]] = set()

    async def run(self) -> AsyncGenerator[Done]:
        """How each job ended, as it ends."""
        tasks = [asyncio.create_task(self._feed(worker)) for worker in self._workers]
        tasks.append(asyncio.create_task(self._pass_on_the_stop()))
        try:
            while (one := await self._ended.get()) is not None:
                if isinstance(one, Exception):
                    raise one
                yield one
        finally:
            for task in (left := [*tasks, *self._runs]):
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _feed(self, worker: Any) -> None:
        """Give a worker jobs as long as there are any, each when it has room."""
        try:
            while True:
                ticket = await self._reserve(worker)
                if (handed := await self._next()) is None:
                    self._ended.put_nowait(None)
                    return
                run = asyncio.create_task(self._run(worker, ticket, handed))
                self._runs.add(run)
                run.add_done_callback(self._runs.discard)
        except Exception as error:
            self._ended.put_nowait(error)

    async def _reserve(self, worker: Any) -> int:
        from ray.exceptions import RayActorError

        pause = 0.1
        while True:
            each = None if self._remaining is None else self._remaining // len(self._workers)
            try:
                ticket = await worker.reserve.remote(each)
            except RayActorError as error:  # it is being started again, on some node
                if _never_started(error):
                    raise ConfigurationError(f"a Ray worker cannot start: {error}") from error
                await asyncio.sleep(pause)
                pause = min(2 * pause, 2.0)
                continue
            if isinstance(ticket, TPOError):
                raise ticket
            return ticket

    async def _next(self) -> _Handed | None:
        """The next job, as soon as there is one; None when all have ended."""
        async with self._changed:
            while True:
                if self._control.drain_requested:
                    while self._returned:
                        self._ended.put_nowait(Done(self._returned.popleft().job.position))
                if self._limit is None or self._in_hand < self._limit:
                    if self._returned:
                        self._in_hand += 1
                        return self._returned.popleft()
                    if (handed := self._taken()) is not None:
                        self._in_hand += 1
                        return handed
                    if self._in_hand == 0:
                        self._changed.notify_all()
                        return None
                await self._changed.wait()

    def _taken(self) -> _Handed | None:
        if self._control.drain_requested:
            return None
        job = next(self._source, None)
        if job is None:
            return None
        if self._remaining is not None:
            self._remaining -= 1
        return _Handed(job)

    async def _run(self, worker: Any, ticket: int, handed: _Handed) -> None:
        """One job on one worker."""
        from ray.exceptions import ActorDiedError, RayActorError

        job = handed.job
        try:
            outcome = await worker.run.remote(ticket, job)
            self._ended.put_nowait(outcome)
        except RayActorError as error:
            deaths = handed.deaths + isinstance(error, ActorDiedError)
            if deaths < _DEATHS:
                self._returned.append(_Handed(job, deaths))
            else:
                said = f"RayWorkerError: {deaths} workers died while they ran it"
                self._ended.put_nowait(Done(job.position, error=said))
        except Exception as error:
            self._ended.put_nowait(error)
        finally:
            async with self._changed:
                self._in_hand -= 1
                self._changed.notify_all()

    async def _pass_on_the_stop(self) -> None:
        from ray.exceptions import RayActorError

        while not self._control.drain_requested:  # noqa: ASYNC110 - a RunControl wakes nobody
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        reason = self._control.drain_reason or "shutdown"
        for worker in self._workers:
            with suppress(RayActorError):
                await worker.drain.remote(reason)
        async with self._changed:
            self._changed.notify_all()


def _never_started(error: Any) -> bool:
    return bool(getattr(error, "actor_init_failed", False))


def _must_be_name(what: str, given: object) -> None:
    if given is not None and not isinstance(given, str):
        raise ConfigurationError(
            f"{what}={given!r} is an object, which other machines cannot be given. Name it "
            "('provider:model', 'local:PATH', a database URL), or use the local engine."
        )


def _absolute(database: str) -> str:
    url = parse_url(database)
    if url.get_backend_name() == "sqlite" and url.database:
        url = url.set(database=str(Path(url.database).expanduser().resolve()))
    return url.render_as_string(hide_password=False)
