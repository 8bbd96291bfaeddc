"""`RayEngine`: jobs on a Ray cluster. Workers run them, a pool of actors scores, a database keeps.

This side is the local engine whose jobs run elsewhere. What a worker that dies had in hand is
handed to another, and resumes from the database where it stopped.
"""

import asyncio
import math
import os
from collections.abc import AsyncGenerator, Iterable, Sized
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack
from uuid import uuid4

from langgraph.runtime import RunControl

from tpo_graph.batch.engine import Done, Job, need_positive, run_jobs
from tpo_graph.batch.ray_actors import DEATHS, PolicyWorker, Pool, RewardActor, answered
from tpo_graph.batch.ray_cluster import Cluster, actors, connected
from tpo_graph.concurrency.in_flight import Flight, InFlight
from tpo_graph.concurrency.outages import WAIT_SECONDS
from tpo_graph.errors import ConfigurationError
from tpo_graph.models.connection import ROLES
from tpo_graph.session.setup import Setup, StoredInputs, spelled_out
from tpo_graph.store.urls import parse_url

_DRAIN_POLL_SECONDS = 0.2
_CLOSING_SECONDS = 15.0
"""How long workers may take to stop what they do and to let go of their leases."""


class RayEngine:
    """An `Engine` whose jobs run on a Ray cluster.

    Policy workers are async actors that open the database themselves and ask the policy's server;
    the reward model is a pool of actors of its own. All that they are told must mean the same on
    every node: models are given by name, a file by a path that every node has, and a database that
    several machines can reach.

    Args:
        database: the URL.
        width: samples that most jobs ask for at a time.
        max_in_flight: how many runs at once, on all workers together; None tunes it.
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
        max_in_flight: int | None = None,
        wait_for_server: float = WAIT_SECONDS,
        cluster: Cluster | None = None,
        **inputs: Unpack[StoredInputs],
    ) -> None:
        setup, context = Setup.given(inputs, database=database)
        for what in (*ROLES, "prompts", "database"):
            given = getattr(setup, what)
            if given is not None and not isinstance(given, str):
                raise ConfigurationError(
                    f"{what}={given!r} is an object, which other machines cannot be given. Name it "
                    "('provider:model', 'local:PATH', a database URL), or use the local engine."
                )
        url = parse_url(database)
        if url.get_backend_name() == "sqlite" and url.database:
            url = url.set(database=str(Path(url.database).expanduser().resolve()))
        self._database = url.render_as_string(hide_password=False)
        self._setup = replace(setup, database=self._database)
        self._width = context.width
        self._max_in_flight = need_positive(max_in_flight)
        self._wait_for_server = wait_for_server
        self._cluster = cluster or Cluster()

    async def run(self, jobs: Iterable[Job], *, control: RunControl) -> AsyncGenerator[Done]:
        """See `Engine.run`.

        Raises:
            ConfigurationError: Ray is missing or cannot be reached, the cluster has no room for
                the actors, or they cannot load what is named.
            StoreError: the database failed.
        """
        if isinstance(jobs, Sized) and not len(jobs):
            return
        cluster, place = self._cluster, (self._cluster.carried(), os.getcwd())
        async with AsyncExitStack() as stack:
            ray = await stack.enter_async_context(connected(cluster, self._database))
            start = partial(actors, ray, cluster.startup_seconds)
            called = [f"tpo-reward-{uuid4().hex}" for _ in range(cluster.reward_actors)]
            given = *place, str(self._setup.reward_model)
            size = cluster.reward_cpus, cluster.reward_gpus
            _, name = await stack.enter_async_context(start(RewardActor, given, called, *size))
            given = *place, self._setup, (name, called), self._wait_for_server
            size = cluster.worker_cpus, cluster.worker_gpus
            called = [f"tpo-worker-{uuid4().hex}" for _ in range(cluster.worker_count(ray))]
            workers, _ = await stack.enter_async_context(start(PolicyWorker, given, called, *size))
            stack.push_async_callback(_close, workers)
            limit = self._max_in_flight
            pool = Pool(workers, math.inf if limit is None else math.ceil(limit / len(workers)))
            stack.callback(pool.close)
            stopping = asyncio.create_task(_pass_on_the_stop(workers, control))
            stack.callback(stopping.cancel)
            in_flight = InFlight(self._width, self._max_in_flight)
            ends = run_jobs(jobs, in_flight, control, partial(_run, pool, control))
            async with aclosing(ends):
                async for end in ends:
                    yield end


async def _run(pool: Pool, control: RunControl, job: Job, flight: Flight) -> Done:
    """One job on some worker."""
    from ray.exceptions import RayActorError

    async def on(worker: Any) -> Done:
        async for reference in worker.run.options(num_returns="streaming").remote(job):
            told = await answered(reference)
            if isinstance(told, Done):
                return told
            getattr(flight, told[0])(*told[1:])
        return Done(job.position)

    try:
        return await pool.ask(on, lambda _: control.drain_requested)
    except RayActorError:
        if control.drain_requested:
            return Done(job.position)
        said = f"RayWorkerError: {DEATHS} workers died while they ran it"
        return Done(job.position, error=said)


async def _close(workers: list[Any]) -> None:
    """Let workers let go of what they have in hand."""
    closing = [asyncio.ensure_future(worker.close.remote()) for worker in workers]
    _, late = await asyncio.wait(closing, timeout=_CLOSING_SECONDS)
    for task in late:
        task.cancel()
    await asyncio.gather(*closing, return_exceptions=True)


async def _pass_on_the_stop(workers: list[Any], control: RunControl) -> None:
    from ray.exceptions import RayActorError

    while not control.drain_requested:  # noqa: ASYNC110 - a RunControl wakes nobody
        await asyncio.sleep(_DRAIN_POLL_SECONDS)
    for worker in workers:
        with suppress(RayActorError):
            await worker.drain.remote(control.drain_reason or "shutdown")
