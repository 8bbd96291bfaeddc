"""Step 1 and 2 of the algorithm: R scores the newest responses, and they enter the cache."""

import time

from langgraph.runtime import Runtime

from tpo_graph.cache import Cache, Scores
from tpo_graph.context import TPOContext
from tpo_graph.conversation import Turn, conversation_key, turns
from tpo_graph.events import Rewards
from tpo_graph.handles import Handles
from tpo_graph.rewards import RewardModel, checked_scores
from tpo_graph.state import StateUpdate, TPOState, newest_candidates
from tpo_graph.usage import Usage, charge, spending


async def reward_score(state: TPOState, runtime: Runtime[TPOContext], tpo: Handles) -> StateUpdate:
    """Score the newest samples; the reward model sees the conversation and the response only.

    Raises:
        RewardError: the reward model failed, or gave something else than finite numbers.
    """
    context = runtime.context
    reward_model = await tpo.reward_model_for(context)
    conversation = turns(state["messages"])
    scores = Scores(reward_model=reward_model.name, conversation=conversation_key(conversation))

    rewards, usage = await _score(reward_model, conversation, state["samples"], tpo.cache, scores)

    run_id, iteration = state["run_id"], state["iteration"]
    runtime.stream_writer(
        Rewards(event="rewards", run_id=run_id, iteration=iteration, rewards=rewards)
    )
    await tpo.cache.record(
        run_id,
        iteration,
        "reward_score",
        usage=usage,
        candidates=newest_candidates({**state, "rewards": rewards}),
        scores=scores,
    )
    return StateUpdate(rewards=rewards, usage=charge(state["usage"], "reward_score", usage))


async def _score(
    reward_model: RewardModel,
    conversation: list[Turn],
    responses: list[str],
    cache: Cache,
    scores: Scores,
) -> tuple[list[float], Usage]:
    """The rewards in order; each different response is scored once, and known ones not at all."""
    started = time.perf_counter()
    stored = await cache.known_rewards(scores, responses)
    known = {r: reward for r, reward in zip(responses, stored, strict=True) if reward is not None}
    missing = [response for response in dict.fromkeys(responses) if response not in known]
    with spending() as usage:
        if missing:
            fresh = await checked_scores(reward_model, conversation, missing)
            known |= dict(zip(missing, map(float, fresh), strict=True))  # state holds plain numbers
            usage["requests"] = usage["requests"] or 1  # most models make none, and count as one
    usage["score_cache_hits"] = len(responses) - len(missing)
    usage["seconds"] = time.perf_counter() - started
    return [known[response] for response in responses], usage
