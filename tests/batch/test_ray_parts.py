"""Parts of the Ray engine that need no cluster: what it refuses, and a lease not free yet."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import update

from tests.batch.ray_rig import POLICY, jobs
from tpo_graph import open_store
from tpo_graph.batch.ray_cluster import Cluster
from tpo_graph.batch.ray_engine import RayEngine
from tpo_graph.batch.ray_rewards import RewardActor, RewardPool
from tpo_graph.cli.engines import take_cluster
from tpo_graph.errors import ConfigurationError
from tpo_graph.session.session import open_session
from tpo_graph.session.setup import Setup
from tpo_graph.store.tables import RunRow, now
from tpo_graph.testing import ScriptedChatModel, prefer_longer

NO_OPTIONS = {
    "engine": "local",
    "ray_address": None,
    "ray_workers": None,
    "ray_env": (),
    "reward_actors": None,
    "reward_gpus": None,
}


@pytest.mark.parametrize(
    "given",
    [
        {"model": ScriptedChatModel()},
        {"reward_model": prefer_longer},
        {"critic": ScriptedChatModel()},
    ],
)
def test_objects_are_refused_because_other_machines_cannot_have_them(given):
    names = {"model": POLICY, "reward_model": "local:rm", **given}
    with pytest.raises(ConfigurationError, match=f"{next(iter(given))}=.* is an object"):
        RayEngine("sqlite:///tpo.db", **names)


def test_numbers_out_of_bounds_and_variables_that_are_not_set_are_refused():
    for wrong in ({"workers": 0}, {"reward_actors": 0}, {"reward_gpus": -0.5}):
        with pytest.raises(ConfigurationError, match=next(iter(wrong))):
            Cluster(**wrong)
    with pytest.raises(ConfigurationError, match="'NO_SUCH_KEY' is not set"):
        Cluster(environment=("NO_SUCH_KEY",))


def test_options_of_ray_are_for_ray():
    assert take_cluster(dict(NO_OPTIONS)) is None
    with pytest.raises(ConfigurationError, match="--reward-gpus"):
        take_cluster({**NO_OPTIONS, "reward_gpus": 0.5})
    cluster = take_cluster({**NO_OPTIONS, "engine": "ray", "ray_workers": 3, "reward_gpus": 0.5})
    assert cluster == Cluster(workers=3, reward_gpus=0.5)


async def test_an_error_of_the_reward_model_comes_out_of_the_actor_as_it_is():
    actor = RewardActor("local:./nowhere", {}, "/nowhere")
    assert isinstance(await actor.name(), ConfigurationError)

    class Method:
        remote = staticmethod(actor.score)

    class Handle:
        score = Method

    with pytest.raises(ConfigurationError, match="nowhere"):
        await RewardPool("local:nowhere@1", [Handle]).score([], ["a"])


async def test_a_job_waits_for_the_lease_of_a_worker_that_is_silent(sqlite_url):
    from tpo_graph.batch import ray_worker
    from tpo_graph.concurrency.in_flight import InFlight
    from tpo_graph.concurrency.outages import ServerWait

    [job] = jobs(1)
    model = ScriptedChatModel()
    async with (
        open_store(sqlite_url) as store,
        open_session(Setup(model=model, reward_model=prefer_longer, database=store)) as runs,
    ):
        orders = ray_worker.Orders(
            Setup(model=POLICY, reward_model="local:rm", database=sqlite_url),
            "rm", [], 2, None, 0.0, ".", {},
        )  # fmt: skip
        worker = ray_worker.PolicyWorker(orders)
        worker._open = runs, InFlight(2), ServerWait(0)
        first = await worker.run(await worker.reserve(None), job)
        silent = {
            "lease_owner": "elsewhere|1|1|x",
            "lease_seen_at": now() - timedelta(seconds=28.5),
        }
        await store.writer.run(lambda c: c.execute(update(RunRow).values(**silent)))
        again = worker.run(await worker.reserve(None), job)
        assert await asyncio.wait_for(again, 20) == first
    assert first.stop_reason == "depth"
