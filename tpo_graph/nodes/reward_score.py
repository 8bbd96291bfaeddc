"""Step 1 and 2 of the algorithm: R scores the newest responses, and they enter the cache."""

import logging
import time

from langgraph.runtime import Runtime

from tpo_graph.cache import Cache, MemoryCache, Scores
from tpo_graph.context import TPOContext
from tpo_graph.conversation import Turn, conversation_key, turns
from tpo_graph.errors import RewardInputError
from tpo_graph.events import Rewards
from tpo_graph.handles import Handles
from tpo_graph.rewards import RewardModel, reuses_scores, score_each
from tpo_graph.state import StateUpdate, TPOState, newest_candidates
from tpo_graph.usage import Usage, charge, spending

_log = logging.getLogger(__name__)


async def reward_score(state: TPOState, runtime: Runtime[TPOContext], tpo: Handles) -> StateUpdate:
    """Score the newest samples; the reward model sees the conversation and the response only.

    A sample that it cannot score (too long, no finite number) is left out and counted as unusable.

    Raises:
        RewardInputError: it can score none of the first samples.
        RewardError: the reward model failed.
    """
    context = runtime.context
    reward_model = await tpo.reward_model_for(context)
    conversation = turns(state["messages"])
    scores = Scores(reward_model=reward_model.name, conversation=conversation_key(conversation))

    found, usage = await _score(
        reward_model,
        conversation,
        state["samples"],
        tpo.cache,
        scores,
        first=state["chosen"] is None,
    )
    samples = [response for response in state["samples"] if response in found]
    rewards = [found[response] for response in samples]

    run_id, iteration = state["run_id"], state["iteration"]
    runtime.stream_writer(
        Rewards(event="rewards", run_id=run_id, iteration=iteration, rewards=rewards)
    )
    await tpo.cache.record(
        run_id,
        iteration,
        "reward_score",
        usage=usage,
        candidates=newest_candidates({**state, "samples": samples, "rewards": rewards}),
        scores=scores,
    )
    charged = charge(state["usage"], "reward_score", usage)
    return StateUpdate(samples=samples, rewards=rewards, usage=charged)


async def _score(
    reward_model: RewardModel,
    conversation: list[Turn],
    responses: list[str],
    cache: Cache,
    scores: Scores,
    *,
    first: bool,
) -> tuple[dict[str, float], Usage]:
    """Rewards by response; each different one is scored once, and known ones not at all.

    Raises:
        RewardInputError: none of them has a reward, and they are the `first` ones.
    """
    started = time.perf_counter()
    failures: dict[str, RewardInputError] = {}
    stored: list[float | None] = [None for _ in responses]
    if reuses_scores(reward_model, tell=not isinstance(cache, MemoryCache)):
        stored = await cache.known_rewards(scores, responses)
    known = {r: reward for r, reward in zip(responses, stored, strict=True) if reward is not None}
    missing = [response for response in dict.fromkeys(responses) if response not in known]
    with spending() as usage:
        if missing:
            fresh = await score_each(reward_model, conversation, missing)
            for response, score in zip(missing, fresh, strict=True):
                if isinstance(score, RewardInputError):
                    failures[response] = score
                else:
                    known[response] = float(score)  # state holds plain numbers
            usage["requests"] = usage["requests"] or 1  # most models make none, and count as one
    usage["score_cache_hits"] = len(responses) - len(missing)
    usage["unusable"] = sum(response in failures for response in responses)
    usage["seconds"] = time.perf_counter() - started
    if failures:
        error = next(iter(failures.values()))
        if not known and first:
            raise error
        _log.warning(
            "%d of %d responses have no score and are left out: %s",
            usage["unusable"],
            len(responses),
            error,
        )
    return known, usage
