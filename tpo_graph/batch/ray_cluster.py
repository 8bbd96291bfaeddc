"""A Ray cluster as the batch uses it: joined or started, with actors on it, and left as it was."""

import asyncio
import importlib
import logging
import os
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tpo_graph.batch.ray_rewards import RewardActor
from tpo_graph.batch.ray_worker import Orders, PolicyWorker
from tpo_graph.errors import ConfigurationError, TPOError
from tpo_graph.extras import extra
from tpo_graph.store.urls import parse_url

_CLOSING_SECONDS = 15.0
"""How long workers may take to stop what they do and to let go of their leases."""


@dataclass(frozen=True)
class Cluster:
    """Which cluster, and what is to run there.

    Raises:
        ConfigurationError: a number is out of bounds.
    """

    address: str | None = None
    """As `ray.init` takes it, "auto" or "HOST:PORT"; None joins the cluster that
    RAY_ADDRESS names or that runs on this machine, and else starts one for the time of the call."""
    workers: int | None = None
    """Policy workers; None: one for each node that has the CPUs for it."""
    worker_cpus: float = 1.0
    worker_gpus: float = 0.0
    """For a policy in the worker's own process ("local:...")."""
    reward_actors: int = 1
    reward_cpus: float = 1.0
    reward_gpus: float = 0.0
    """Of each actor of the reward model; a fraction lets several share one GPU, 0 uses none."""
    environment: Sequence[str] = ()
    """Names of variables to take from here to the actors, such as OPENAI_API_KEY. Others are those
    of the nodes."""
    startup_seconds: float = 600.0
    """How long to wait for the first actor of a kind: a cluster may add nodes in that time."""

    def __post_init__(self) -> None:
        for name in ("workers", "reward_actors"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise ConfigurationError(f"{name}={count!r} must be at least 1")
        for name in ("worker_cpus", "worker_gpus", "reward_cpus", "reward_gpus"):
            if (share := getattr(self, name)) < 0:
                raise ConfigurationError(f"{name}={share!r} must be 0 or more")
        for name in self.environment:
            if name not in os.environ:
                raise ConfigurationError(f"the variable {name!r} is not set, so it cannot be taken")

    def carried(self) -> dict[str, str]:
        """The variables of `environment` with their values."""
        return {name: os.environ[name] for name in self.environment}


class Actors:
    """Makes actors on the cluster that is connected; `connected` takes them away again."""

    def __init__(self, ray: Any, cluster: Cluster) -> None:
        self._ray = ray
        self._cluster = cluster
        self._workers: list[Any] = []
        self._rewards: list[Any] = []

    @property
    def worker_count(self) -> int:
        """How many policy workers there are to be."""
        if self._cluster.workers is not None:
            return self._cluster.workers
        cpus = [node["Resources"].get("CPU", 0.0) for node in self.nodes()]
        return max(1, sum(cpu >= self._cluster.worker_cpus and cpu > 0 for cpu in cpus))

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that are alive."""
        return [node for node in self._ray.nodes() if node["Alive"]]

    async def reward_pool(self, spec: str) -> tuple[list[str], str]:
        """Start the reward model's actors; what they are called, and the reward model's name.

        Raises:
            ConfigurationError: there is no room for any of them, or they cannot load it.
        """
        cluster = self._cluster
        made = self._ray.remote(RewardActor)
        called = [f"tpo-reward-{uuid4().hex}" for _ in range(cluster.reward_actors)]
        self._rewards = [
            made.options(
                name=name,
                num_cpus=cluster.reward_cpus,
                num_gpus=cluster.reward_gpus,
                max_restarts=-1,
                scheduling_strategy="SPREAD",
            ).remote(spec, cluster.carried(), os.getcwd())
            for name in called
        ]
        asks = f"{cluster.reward_cpus:g} CPU, {cluster.reward_gpus:g} GPU (reward model)"
        name = await self._first([_value(actor.name.remote()) for actor in self._rewards], asks)
        return called, name

    async def workers(self, orders: Orders) -> list[Any]:
        """Start the policy workers, and wait for the first; the others join as they are ready.

        Raises:
            ConfigurationError: there is no room for any of them.
        """
        cluster = self._cluster
        made = self._ray.remote(PolicyWorker).options(
            num_cpus=cluster.worker_cpus,
            num_gpus=cluster.worker_gpus,
            max_restarts=-1,
            max_concurrency=10_000,
            scheduling_strategy="SPREAD",
        )
        self._workers = [made.remote(orders) for _ in range(self.worker_count)]
        asks = f"{cluster.worker_cpus:g} CPU, {cluster.worker_gpus:g} GPU (policy worker)"
        await self._first([_value(worker.process.remote()) for worker in self._workers], asks)
        return self._workers

    async def close(self) -> None:
        """Stop the workers, so that nothing of theirs keeps a lease, and remove all actors."""
        closing = [asyncio.create_task(_closed(worker)) for worker in self._workers]
        if closing:
            _, late = await asyncio.wait(closing, timeout=_CLOSING_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*closing, return_exceptions=True)
        for actor in [*self._workers, *self._rewards]:
            with suppress(self._ray.exceptions.RayError):  # it is gone, or the cluster is
                self._ray.kill(actor, no_restart=True)

    async def _first(self, calls: Sequence[Coroutine[Any, Any, Any]], asks: str) -> Any:
        tasks = [asyncio.create_task(call) for call in calls]
        try:
            ready, _ = await asyncio.wait(
                tasks,
                timeout=self._cluster.startup_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for task in tasks:
                task.cancel()
        if not ready:
            has: Mapping[str, float] = self._ray.cluster_resources()
            raise ConfigurationError(
                f"no actor with {asks} has started within {self._cluster.startup_seconds:g} s. The "
                f"cluster has {has.get('CPU', 0):g} CPU and {has.get('GPU', 0):g} GPU in all: ask "
                "for less, or add nodes."
            )
        try:
            value = ready.pop().result()
        except self._ray.exceptions.RayError as error:
            raise ConfigurationError(f"an actor with {asks} cannot start: {error}") from error
        if isinstance(value, TPOError):
            raise value
        return value


@asynccontextmanager
async def connected(cluster: Cluster, database: str) -> AsyncGenerator[Actors]:
    """Join the cluster; its actors and the connection, if it was made here, end with the block.

    Raises:
        ConfigurationError: Ray is missing or cannot be reached, or the database is a file and the
            cluster has several machines.
    """
    with extra("ray", "a cluster"):
        ray: Any = importlib.import_module("ray")
    made_here = not ray.is_initialized()
    if made_here:
        await asyncio.to_thread(_join, ray, cluster.address)
    actors = Actors(ray, cluster)
    try:
        machines = {node["NodeManagerAddress"] for node in actors.nodes()}
        if len(machines) > 1 and parse_url(database).get_backend_name() == "sqlite":
            raise ConfigurationError(
                f"the cluster has {len(machines)} machines, which cannot share a SQLite file. Use "
                "a server: postgresql+psycopg://USER:PASSWORD@HOST/DATABASE."
            )
        yield actors
    finally:
        await actors.close()
        if made_here:
            await asyncio.to_thread(ray.shutdown)


def _join(ray: Any, address: str | None) -> None:
    # A cluster that is started here reports to nobody, unless the user wants it to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            address=address,
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ConfigurationError(
            f"no Ray cluster can be joined at {address!r}: {error} Start one with `ray start "
            "--head`, or name the address of its head node."
        ) from error


async def _closed(worker: Any) -> None:
    await worker.close.remote()


async def _value(reference: Any) -> Any:
    return await reference
