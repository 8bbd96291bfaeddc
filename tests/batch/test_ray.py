"""The Ray engine on a real cluster: the local engine's results, also when workers die."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from langgraph.runtime import RunControl

from tests.batch.ray_rig import (
    Pace,
    by_local_engine,
    by_ray,
    engine,
    jobs,
    kill,
    lost,
    numbers,
    paid_twice,
    processes,
    ray_cluster,
    stored,
    wait_until,
)
from tests.tiny_models import classifier
from tpo_graph.errors import ConfigurationError


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_cluster({"num_cpus": 3}) as made:
        yield made


async def test_a_killed_worker_s_jobs_go_on_and_end_as_those_of_the_local_engine(
    cluster, policy, reward, tmp_path
):
    given = jobs(8)
    local_url, url = f"sqlite:///{tmp_path / 'local.db'}", f"sqlite:///{tmp_path / 'ray.db'}"
    expected = await by_local_engine(given, local_url, reward)
    policy.calls.clear()

    policy.rule = pace = Pace()
    running = asyncio.create_task(by_ray(given, engine(url, reward)))
    workers = await pace.once_at_work(url, policy, 2)
    kill(workers[0])
    ended = await running

    assert lost(policy) > 0
    assert numbers(ended) == numbers(expected)
    assert stored(url) == stored(local_url)
    # The dead worker had four runs; each had one call in flight, or just answered.
    assert paid_twice(policy) + lost(policy) <= 4


@pytest.mark.slow
async def test_a_stop_ends_all_runs_at_their_next_step_and_another_call_goes_on(
    cluster, policy, reward, tmp_path
):
    given, url = jobs(8, depth=2), f"sqlite:///{tmp_path / 'ray.db'}"
    control = RunControl()
    policy.rule = pace = Pace()
    running = asyncio.create_task(by_ray(given, engine(url, reward), control))
    await pace.once_at_work(url, policy, 2)
    control.request_drain("enough")
    stopped = await running
    assert {one.error for one in stopped} == {None}
    assert any(one.stop_reason is None for one in stopped)
    assert lost(policy) == 0
    wait_until(lambda: not processes("PolicyWorker") + processes("RewardActor"), 5)

    again = await by_ray(given, engine(url, reward))
    assert {one.stop_reason for one in again} == {"depth"}
    assert paid_twice(policy) == 0


@pytest.mark.slow
async def test_closing_the_engine_lets_go_of_every_lease(cluster, policy, reward, tmp_path):
    given, url = jobs(4), f"sqlite:///{tmp_path / 'ray.db'}"
    policy.rule = Pace(waiting=False)
    ended = engine(url, reward).run(given, control=RunControl())
    await anext(ended)
    await ended.aclose()
    runs = stored(url)["tpo_runs"]
    assert {row["status"] for row in runs} <= {"interrupted", "finished"}
    again = await by_ray(given, engine(url, reward))
    assert {one.stop_reason for one in again} == {"depth"}


@pytest.mark.slow
async def test_a_local_reward_model_in_the_pool_and_one_of_its_actors_dies(
    cluster, policy, tmp_path
):
    given, reward = jobs(6), f"local:{classifier()}"
    local_url, url = f"sqlite:///{tmp_path / 'local.db'}", f"sqlite:///{tmp_path / 'ray.db'}"
    expected = await by_local_engine(given, local_url, reward)
    policy.calls.clear()
    policy.rule = pace = Pace()
    pooled = engine(url, reward, workers=1, reward_actors=2, reward_gpus=0.0)
    running = asyncio.create_task(by_ray(given, pooled))
    await pace.once_at_work(url, policy, 1)
    kill(processes("RewardActor")[0])
    ended = await running
    # Which responses share a batch moves scores in their last digits.
    rewards = [one.reward for one in expected]
    assert [one.reward for one in ended] == pytest.approx(rewards, abs=1e-5)
    scored = [one.usage["reward_score"]["prompt_tokens"] for one in ended]
    assert min(scored) > 100
    assert scored == [one.usage["reward_score"]["prompt_tokens"] for one in expected]


@pytest.mark.slow
async def test_what_cannot_start_is_one_clear_error(cluster, policy, reward, tmp_path):
    url = f"sqlite:///{tmp_path / 'ray.db'}"
    with pytest.raises(ConfigurationError, match=r"0\.5 GPU \(reward model\).* 3 CPU and 0 GPU"):
        await by_ray(jobs(1), engine(url, reward, reward_gpus=0.5, startup_seconds=2.0))
    with pytest.raises(ConfigurationError, match=r"no model at '\./nowhere'"):
        await by_ray(jobs(1), engine(url, "local:./nowhere"))
    assert await by_ray([], engine(url, "local:./nowhere")) == []
