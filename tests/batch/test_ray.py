"""The Ray engine on a real cluster: the local engine's results, also when workers and nodes die."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langgraph.runtime import RunControl

from tests.batch.ray_rig import (
    CARRIED,
    POLICY,
    LengthServer,
    by_local_engine,
    jobs,
    kill,
    numbers,
    paid_twice,
    policy_server,
    processes,
    ray_cluster,
    slow,
    stored,
    wait_until,
)
from tests.openai_server import OpenAIServer
from tpo_graph.batch.engine import Done, Job
from tpo_graph.batch.ray_cluster import Cluster
from tpo_graph.batch.ray_engine import RayEngine


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster({"num_cpus": 3}) as made:
        yield made


@pytest.fixture
def reward() -> Iterator[LengthServer]:
    with LengthServer() as server:
        yield server


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with policy_server() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        yield server


def engine(url: str, reward: LengthServer, **options: Any) -> RayEngine:
    sizes = {"workers": 2, "environment": CARRIED, **options.pop("cluster", {})}
    return RayEngine(
        url, model=POLICY, reward_model=reward.spec, cluster=Cluster(**sizes), **options
    )


async def by_ray(
    given: list[Job], ray_engine: RayEngine, control: RunControl | None = None
) -> list[Done]:
    ended = ray_engine.run(given, control=control or RunControl())
    return sorted([one async for one in ended], key=lambda one: one.position)


async def test_a_killed_worker_s_jobs_go_on_and_end_as_those_of_the_local_engine(
    cluster, policy, reward, tmp_path
):
    given = jobs(8)
    local_url, url = f"sqlite:///{tmp_path / 'local.db'}", f"sqlite:///{tmp_path / 'ray.db'}"
    expected = await by_local_engine(given, local_url, reward.spec)
    calls = len(policy.calls)
    policy.calls.clear()

    policy.rule = slow
    running = asyncio.create_task(by_ray(given, engine(url, reward)))
    await asyncio.to_thread(wait_until, lambda: len(policy.calls) >= 12)
    workers = processes("PolicyWorker")
    assert len(workers) == 2
    kill(workers[0])
    ended = await running

    assert numbers(ended) == numbers(expected)
    assert stored(url) == stored(local_url)
    again = paid_twice(policy)
    # The dead worker had four runs at most, each with one call in flight.
    assert sum(again.values()) <= 4
    assert len(policy.calls) > calls or not again
