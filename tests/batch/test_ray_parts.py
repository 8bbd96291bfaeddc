"""Parts of the Ray engine that need no cluster: what it refuses, and a lease not free yet."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from sqlalchemy import update

from tests.batch.ray_rig import POLICY, jobs
from tpo_graph import open_store
from tpo_graph.batch.engine import Done
from tpo_graph.batch.ray_actors import PolicyWorker, RewardActor, RewardPool
from tpo_graph.batch.ray_cluster import Cluster
from tpo_graph.batch.ray_engine import RayEngine
from tpo_graph.cli.engines import take_cluster
from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError, RewardError
from tpo_graph.session.setup import Setup
from tpo_graph.store.tables import RunRow, now
from tpo_graph.testing import ScriptedChatModel, prefer_longer
from tpo_graph.usage import no_usage

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


class Method:
    """A method of an actor's handle."""

    def __init__(self, method: Callable[..., Awaitable[Any]]) -> None:
        self.remote = method


class Handle:
    """The handle of an actor that is only this object."""

    def __init__(self, actor: Any, *, dies: bool = False, starts: bool = True) -> None:
        self.actor, self.dies, self.starts, self.calls = actor, dies, starts, 0
        self.ready, self.score = Method(self._ready), Method(self._score)

    async def _ready(self) -> None:
        if not self.starts:
            await asyncio.Event().wait()

    async def _score(self, *arguments: Any) -> Any:
        self.calls += 1
        if self.dies:
            raise ActorDiedError()
        try:
            return await self.actor.score(*arguments)
        except ConfigurationError as error:  # as Ray raises it
            raise RayTaskError("score", "traceback", error) from error


async def test_an_error_of_the_reward_model_comes_out_of_the_actor_as_it_is():
    actor = RewardActor({}, "/nowhere", "local:./nowhere")
    with pytest.raises(ConfigurationError, match="nowhere") as told:
        await RewardPool("local:nowhere@1", [Handle(actor)]).score([], ["a"])
    assert not isinstance(told.value, RayTaskError)


async def test_a_pool_leaves_out_actors_that_are_gone_or_have_not_started(tmp_path):
    (tmp_path / "length.py").write_text("def length(q, r):\n    return float(len(r))\n")
    actor = RewardActor({}, ".", f"python:{tmp_path / 'length.py'}#length")
    dead, good, late = Handle(actor, dies=True), Handle(actor), Handle(actor, starts=False)
    pool = RewardPool("length", [dead, good, late])
    question = [Turn(role="user", content="?")]
    scores = [await pool.score(question, ["abc"]) for _ in range(6)]
    assert scores == [[3.0]] * 6
    assert (good.calls, late.calls) == (6, 0)
    assert dead.calls <= 1
    with pytest.raises(RewardError, match="'length' died or stayed away"):
        await RewardPool("length", [dead]).score(question, ["abc"])


async def test_a_job_waits_for_the_lease_of_a_worker_that_is_silent(sqlite_url, monkeypatch):
    class Rewards:
        async def score(self, conversation: Any, responses: list[str]) -> Any:
            return [float(len(response)) for response in responses], no_usage()

    monkeypatch.setattr("ray.get_actor", lambda name: Handle(Rewards()))
    [job] = jobs(1)
    model = ScriptedChatModel()
    setup = Setup(model=model, reward_model="local:rm", database=sqlite_url)
    async with open_store(sqlite_url) as store:
        worker = PolicyWorker({}, ".", setup, ("rm", ["rm"]), 0.0)

        async def ended() -> Done:
            [*told, end] = [call async for call in worker.run(job)]
            assert all(call[0] in ("step", "replied", "scored") for call in told)
            return end

        first = await ended()
        silent = {
            "lease_owner": "elsewhere|1|1|x",
            "lease_seen_at": now() - timedelta(seconds=28.5),
        }
        await store.writer.run(lambda c: c.execute(update(RunRow).values(**silent)))
        assert await asyncio.wait_for(ended(), 20) == first
        await worker.close()
    assert first.stop_reason == "depth"
