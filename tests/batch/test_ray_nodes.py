"""The Ray engine when a whole node dies, and with it workers and a part of the reward pool."""

import asyncio

import pytest

from tests.batch.ray_rig import (
    by_local_engine,
    by_ray,
    engine,
    jobs,
    lost,
    numbers,
    paid_twice,
    processes,
    ray_cluster,
    slow,
    stored,
    wait_until,
)
from tpo_graph.errors import ConfigurationError


@pytest.mark.slow
async def test_a_node_that_dies_loses_nothing(policy, reward, postgres_url, tmp_path):
    given, local_url = jobs(16, depth=2), f"sqlite:///{tmp_path / 'local.db'}"
    expected = await by_local_engine(given, local_url, reward)
    policy.calls.clear()
    policy.rule = slow
    with ray_cluster({"num_cpus": 2}, {"num_cpus": 2, "node_ip_address": "127.0.0.2"}) as made:
        with pytest.raises(ConfigurationError, match="cannot share a SQLite file"):
            await by_ray(given, engine(local_url, reward))
        running = asyncio.create_task(by_ray(given, engine(postgres_url, reward, reward_actors=2)))
        both = ("PolicyWorker", "RewardActor")
        await asyncio.to_thread(wait_until, lambda: all(len(processes(k)) == 2 for k in both))
        begun = len(policy.calls)
        await asyncio.to_thread(wait_until, lambda: len(policy.calls) >= begun + 24)
        await asyncio.to_thread(made.remove_node, made.list_all_nodes()[-1], allow_graceful=False)
        ended = await running
    assert lost(policy) > 0
    assert numbers(ended) == numbers(expected)
    assert stored(postgres_url) == stored(local_url)
    assert paid_twice(policy) + lost(policy) <= 4
