"""Score a stored run's candidates with another reward model, beside the first one's rewards."""

from tpo_graph.concurrency.background import sync
from tpo_graph.rewards import RewardFunction, RewardModel, as_reward_model
from tpo_graph.session.audit import scored_once
from tpo_graph.session.stored import opened
from tpo_graph.store import Store
from tpo_graph.store.trajectory import Trajectory, read_trajectory


async def arescore(
    run_id: str, *, reward_model: str | RewardModel | RewardFunction, database: str | Store
) -> Trajectory:
    """Score all candidates of a run by another reward model. Known rewards are not asked again.

    Returns:
        The run, whose candidates' `other_rewards` hold the new ones.

    Raises:
        RunNotFoundError: no such run is stored.
        RewardError: the reward model failed.
    """
    async with opened(database) as store:
        trajectory = await read_trajectory(store, run_id)
        texts = list(dict.fromkeys(c["response"] for c in trajectory["candidates"]))
        model = as_reward_model(reward_model)
        await scored_once(model, trajectory["run"]["conversation"], texts, store.cache)
        return await read_trajectory(store, run_id)


rescore = sync(arescore)
"""Score all candidates of a run by another reward model and wait."""
