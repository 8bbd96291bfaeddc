"""The Ray engine when a whole node dies, and with it workers and a part of the reward pool."""

import asyncio

import pytest

from tests.batch.ray_rig import (
    Pace,
    by_local_engine,
    by_ray,
    engine,
    jobs,
    kill_node,
    lost,
    numbers,
    paid_twice,
    ray_cluster,
    stored,
)
from tpo_graph.errors import ConfigurationError


@pytest.mark.slow
async def test_a_node_that_dies_loses_nothing(policy, reward, postgres_url, tmp_path):
    given, local_url = jobs(12, depth=2), f"sqlite:///{tmp_path / 'local.db'}"
    expected = await by_local_engine(given, local_url, reward)
    policy.calls.clear()
    policy.rule = pace = Pace()
    with ray_cluster({"num_cpus": 2}, {"num_cpus": 2, "node_ip_address": "127.0.0.2"}) as made:
        with pytest.raises(ConfigurationError, match="cannot share a SQLite file"):
            await by_ray(given, engine(local_url, reward))
        running = asyncio.create_task(by_ray(given, engine(postgres_url, reward, reward_actors=2)))
        await pace.once_at_work(postgres_url, policy, 2)
        await asyncio.to_thread(kill_node, made, next(iter(made.worker_nodes)))
        ended = await running
    assert lost(policy) > 0
    assert numbers(ended) == numbers(expected)
    assert stored(postgres_url) == stored(local_url)
    assert paid_twice(policy) + lost(policy) <= 4
