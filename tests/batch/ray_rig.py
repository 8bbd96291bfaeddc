"""A Ray cluster of several nodes on this machine, and servers whose log says what was paid for."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

from langgraph.runtime import RunControl
from sqlalchemy import inspect, select

from tests.kills.harness import connected, finished, rows
from tests.openai_server import Behaviour, OpenAIServer
from tests.reward_server import RewardServer
from tpo_graph import TPOContext
from tpo_graph.batch.engine import Done, Job, LocalEngine
from tpo_graph.batch.ray_cluster import Cluster
from tpo_graph.batch.ray_engine import RayEngine
from tpo_graph.conversation import Turn
from tpo_graph.session.session import open_session
from tpo_graph.session.setup import Setup
from tpo_graph.store.tables import RunRow

POLICY = "openai:policy"
CARRIED = ("OPENAI_API_KEY", "OPENAI_BASE_URL")
MEMORY = 80 * 2**20  # the least that Ray accepts for its object store is 75 MB


class LengthServer(RewardServer):
    """vLLM's `/classify` with a reward that needs no model: the length of the answer."""

    def __init__(self) -> None:
        super().__init__("vllm", "")

    def _vllm_rows(self, body: dict[str, Any]) -> list[list[float]]:
        answer = body["messages"][-1]["content"]
        return [[len(answer) + sum(map(ord, answer)) % 97 / 100]]

    @property
    def spec(self) -> str:
        return f"vllm:{self.url}#rm"


@contextmanager
def ray_cluster(*nodes: dict[str, Any]) -> Iterator[Any]:
    """A cluster of a head without CPUs and such nodes; this process is joined to it."""
    import ray
    from ray.cluster_utils import Cluster

    head = {
        "num_cpus": 0,
        "include_dashboard": False,
        "object_store_memory": MEMORY,
        # A node that is gone is missed soon: Ray's own 15 s are made for real networks.
        "_system_config": {"health_check_period_ms": 1000, "health_check_failure_threshold": 4},
    }
    with patch.dict(os.environ, RAY_USAGE_STATS_ENABLED="0"):
        cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        for node in nodes:
            cluster.add_node(object_store_memory=MEMORY, **node)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def jobs(count: int, **settings: Any) -> list[Job]:
    """Questions to answer, with seeds, so that every run of them asks the same."""
    options = TPOContext(**{"seed": 1, "width": 2, "depth": 1, **settings}).model_dump(mode="json")
    return [
        Job(n, f"run-{n}", [Turn(role="user", content=f"Question {n}?")], options)
        for n in range(count)
    ]


async def by_local_engine(given: list[Job], url: str, reward_model: str) -> list[Done]:
    """How the jobs end in this process."""
    setup = Setup(model=POLICY, reward_model=reward_model, database=url)
    async with open_session(setup) as runs:
        ended = LocalEngine(runs, width=2).run(given, control=RunControl())
        return sorted([one async for one in ended], key=lambda one: one.position)


async def by_ray(
    given: list[Job], engine: RayEngine, control: RunControl | None = None
) -> list[Done]:
    """How the jobs end on the cluster."""
    ended = engine.run(given, control=control or RunControl())
    return sorted([one async for one in ended], key=lambda one: one.position)


def stored(url: str) -> dict[str, Any]:
    """All rows but those that tell when the reward model was asked, and when the cache was."""
    tables = rows(url)
    tables["tpo_usage"] = [u for u in tables["tpo_usage"] if u["stage"] != "reward_score"]
    return tables


def numbers(ended: list[Done]) -> list[tuple[Any, ...]]:
    """What a `Done` tells that is the same each time."""
    return [(one.position, one.error, one.reward, one.first_best, one.stop_reason) for one in ended]


class Pace:
    """Rule of a server whose replies take long enough for a kill to hit them.

    Its tests have eight runs in hand, on one worker or four on each of two: of five calls that wait
    for their replies, each worker has asked one.
    """

    def __init__(self, waiting: bool = True) -> None:
        self.waiting = waiting
        """Until all actors are there that the test waits for: one that is early would do it all."""
        self.seconds = 2.0

    def __call__(self, _: Any) -> Behaviour:
        return Behaviour(held=lambda: self.waiting, delay=self.seconds)

    async def once_at_work(self, url: str, server: OpenAIServer, workers: int) -> list[int]:
        """Go faster once so many workers have runs in hand; their process ids, some calls later,
        at a moment when each of them waits for replies that are not due yet."""
        await asyncio.to_thread(wait_until, lambda: len(holders(url)) >= workers)
        self.waiting = False
        begun = len(server.calls)
        await asyncio.to_thread(wait_until, lambda: len(server.calls) >= begun + 8)
        found = holders(url)
        await asyncio.to_thread(wait_until, lambda: _just_asked(server) >= 5)
        self.seconds = 0.3
        return found


def _just_asked(server: OpenAIServer) -> int:
    """How many calls are not answered, and will not be within the next 0.4 seconds."""
    late = time.time() - 1.6
    return sum(call.ended is None and call.started > late for call in server.calls)


def holders(url: str) -> list[int]:
    """The processes that have runs in hand."""
    with connected(url) as connection:
        if not inspect(connection).has_table("tpo_runs"):
            return []
        leases = connection.scalars(select(RunRow.lease_owner).distinct())
        return [int(owner.split("|")[1]) for owner in leases if owner is not None]


def paid_twice(server: OpenAIServer) -> int:
    """How many calls were answered in full that had been answered before."""
    return sum(times - 1 for times in finished(server).values())


def lost(server: OpenAIServer) -> int:
    """How many calls were cut off before they were answered."""
    return sum(call.ended is None for call in server.calls)


def processes(kind: str) -> list[int]:
    """The processes of actors of a class."""
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "cmdline").read_bytes().startswith(f"ray::{kind}".encode()):
                found.append(int(folder.name))
    return found


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def kill_node(cluster: Any, node: Any) -> None:
    """End all processes of a node at once, as a power cut does."""
    [raylet] = node.all_processes["raylet"]
    for process in [*_children(raylet.process.pid), raylet.process.pid]:
        kill(process)
    cluster.remove_node(node, allow_graceful=False)


def _children(parent: int) -> list[int]:
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "stat").read_text().rpartition(")")[2].split()[1] == str(parent):
                found.append(int(folder.name))
    return found


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def engine(url: str, reward_model: str, **sizes: Any) -> RayEngine:
    """Two workers with room for four runs each, unless the sizes say something else."""
    cluster = Cluster(**{"workers": 2, "environment": CARRIED, **sizes})
    return RayEngine(url, model=POLICY, reward_model=reward_model, max_in_flight=8, cluster=cluster)
