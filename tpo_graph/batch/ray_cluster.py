"""A Ray cluster as the batch uses it: joined or started, with actors on it, and left as it was."""

import asyncio
import importlib
import logging
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tpo_graph.batch.ray_actors import PolicyWorker, RewardActor, answered
from tpo_graph.errors import ConfigurationError
from tpo_graph.extras import extra
from tpo_graph.store.urls import parse_url


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

    def worker_count(self, ray: Any) -> int:
        """How many policy workers there are to be on the cluster that is joined."""
        if self.workers is not None:
            return self.workers
        nodes = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
        return max(1, sum(cpu >= self.worker_cpus and cpu > 0 for cpu in nodes))


@asynccontextmanager
async def connected(cluster: Cluster, database: str) -> AsyncGenerator[Any]:
    """Join the cluster: Ray's module. A connection that was made here ends with the block.

    Raises:
        ConfigurationError: Ray is missing or cannot be reached, or the database is a file and the
            cluster has several machines.
    """
    with extra("ray", "a cluster"):
        ray: Any = importlib.import_module("ray")
    made_here = not ray.is_initialized()
    if made_here:
        await asyncio.to_thread(_join, ray, cluster.address)
    try:
        machines = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
        if len(machines) > 1 and parse_url(database).get_backend_name() == "sqlite":
            raise ConfigurationError(
                f"the cluster has {len(machines)} machines, which cannot share a SQLite file. Use "
                "a server: postgresql+psycopg://USER:PASSWORD@HOST/DATABASE."
            )
        yield ray
    finally:
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


@asynccontextmanager
async def actors(
    ray: Any,
    seconds: float,
    kind: type[RewardActor | PolicyWorker],
    arguments: Sequence[Any],
    names: Sequence[str],
    cpus: float,
    gpus: float,
) -> AsyncGenerator[tuple[list[Any], Any]]:
    """Start actors, spread over the nodes, and wait for the first; they are gone after the block.

    Args:
        seconds: how long to wait.
        arguments: of the class.
        names: what each is called on the cluster.
        cpus, gpus: of each.

    Yields:
        Their handles, and what the first one's `ready` returned. The others join as they are ready.

    Raises:
        ConfigurationError: there is no room for any of them, or they cannot load what is named.
    """
    made = ray.remote(kind)
    handles = [
        made.options(
            name=name,
            num_cpus=cpus,
            num_gpus=gpus,
            max_restarts=-1,
            max_concurrency=10_000,
            scheduling_strategy="SPREAD",
        ).remote(*arguments)
        for name in names
    ]
    starting = [asyncio.ensure_future(answered(handle.ready.remote())) for handle in handles]
    asks = f"actor with {cpus:g} CPU, {gpus:g} GPU ({kind.called})"
    try:
        done, _ = await asyncio.wait(starting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            has: Mapping[str, float] = ray.cluster_resources()
            raise ConfigurationError(
                f"no {asks} has started within {seconds:g} s. The cluster has "
                f"{has.get('CPU', 0):g} CPU and {has.get('GPU', 0):g} GPU in all: ask for "
                "less, or add nodes."
            )
        try:
            first = done.pop().result()
        except ray.exceptions.RayError as error:
            raise ConfigurationError(f"an {asks} cannot start: {error}") from error
        yield handles, first
    finally:
        for task in starting:
            task.cancel()
        await asyncio.gather(*starting, return_exceptions=True)
        for handle in handles:
            with suppress(ray.exceptions.RayError):  # it is gone, or the cluster is
                ray.kill(handle, no_restart=True)
