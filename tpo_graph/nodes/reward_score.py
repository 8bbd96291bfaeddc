"""Step 1 and 2 of the algorithm: R scores the newest responses, and they enter the cache."""

import logging
import time
from contextlib import suppress

from langgraph.runtime import Runtime

from tpo_graph.cache import Cache, MemoryCache, Scores
from tpo_graph.concurrency.shielded import shielded
from tpo_graph.context import TPOContext
from tpo_graph.conversation import Turn, conversation_key, turns
from tpo_graph.errors import RewardInputError, StoreError, error_line
from tpo_graph.events import Rewards
from tpo_graph.nodes.handles import Handles
from tpo_graph.rewards import RewardModel, Score, reuses_scores, score_each
from tpo_graph.state import StateUpdate, TPOState, newest_candidates
from tpo_graph.usage import Usage, charge, spending

_log = logging.getLogger(__name__)
_LONGEST_REASON = 2_000
"""Characters of a reason that are kept: the state must not grow with what a checker prints."""


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

    found, failed, usage = await _score(
        reward_model,
        conversation,
        state["samples"],
        tpo.cache,
        scores,
        first=state["chosen"] is None,
    )
    finishes = state.get("finish_reasons") or [None] * len(state["samples"])
    scored = [
        (response, finish)
        for response, finish in zip(state["samples"], finishes, strict=True)
        if response in found
    ]
    left_out = [(response, why) for response, why in failed.items() if response not in found]
    rewards = [float(found[response]) for response, _ in scored]  # the state holds plain numbers
    change = StateUpdate(
        rewards=rewards,
        finish_reasons=[finish for _, finish in scored],
        reasons=[found[response].reason[:_LONGEST_REASON] for response, _ in scored],
        samples=[response for response, _ in scored],
    )

    run_id, iteration = state["run_id"], state["iteration"]
    runtime.stream_writer(
        Rewards(event="rewards", run_id=run_id, iteration=iteration, rewards=rewards)
    )
    await tpo.cache.record(
        run_id,
        iteration,
        "reward_score",
        usage=usage,
        candidates=newest_candidates({**state, **change}),  # pyright: ignore[reportArgumentType]
        scores=scores,
        unusable=left_out,
    )
    change["usage"] = charge(state["usage"], "reward_score", usage)
    return change


async def _paid_once(
    reward_model: RewardModel,
    conversation: list[Turn],
    responses: list[str],
    cache: Cache,
    scores: Scores,
) -> list[Score | RewardInputError]:
    """`score_each`; when it fails or is cancelled, what it has scored by then is remembered."""
    kept: dict[str, Score] = {}
    try:
        return await score_each(reward_model, conversation, responses, kept)
    except BaseException:
        if kept:
            short = {text: Score(s, s.reason[:_LONGEST_REASON]) for text, s in kept.items()}
            # What ended the step matters more than a cache that cannot take note of it.
            with suppress(StoreError):
                await shielded(cache.remember(scores, short))
        raise


async def _score(
    reward_model: RewardModel,
    conversation: list[Turn],
    responses: list[str],
    cache: Cache,
    scores: Scores,
    *,
    first: bool,
) -> tuple[dict[str, Score], dict[str, str], Usage]:
    """Scores by response, and why others have none; each text is scored once, known ones never."""
    started = time.perf_counter()
    failures: dict[str, RewardInputError] = {}
    stored: list[Score | None] = [None for _ in responses]
    if reuses_scores(reward_model, tell=not isinstance(cache, MemoryCache)):
        stored = await cache.known_rewards(scores, responses)
    known = {r: reward for r, reward in zip(responses, stored, strict=True) if reward is not None}
    missing = [response for response in dict.fromkeys(responses) if response not in known]
    with spending() as usage:
        if missing:
            fresh = await _paid_once(reward_model, conversation, missing, cache, scores)
            for response, score in zip(missing, fresh, strict=True):
                if isinstance(score, RewardInputError):
                    failures[response] = score
                else:
                    known[response] = score
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
    return known, {text: error_line(error) for text, error in failures.items()}, usage
