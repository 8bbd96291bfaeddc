"""The held-out audit: a second reward model looks at the first best and at the final answer.

What is optimised stops being a good measure. A reward model of another lineage that took no part in
the run tells whether the answer got better or only the number did.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tpo_graph.cache import Scores
from tpo_graph.candidates import Candidate, best
from tpo_graph.conversation import Turn, conversation_key
from tpo_graph.errors import RewardError, error_line
from tpo_graph.rewards import RewardModel, checked_scores, reuses_scores
from tpo_graph.session.result import Audit, TPOResult

if TYPE_CHECKING:
    from tpo_graph.store import SqlCache


async def audited(
    result: TPOResult,
    conversation: Sequence[Turn],
    reward_model: RewardModel,
    *,
    fall_back: bool = False,
    scores: "SqlCache | None" = None,
) -> TPOResult:
    """The result with its audit, or with the reason why there is none.

    An auditor that fails does not take the answer along: what the run paid for is worth more.

    Args:
        result: a finished run.
        conversation: what it answered.
        reward_model: the auditor; it should share neither data nor lineage with the run's own.
        fall_back: answer with the best first sample where the run was over-optimised.
        scores: where the auditor's scores are kept, and taken from when they are there already.
    """
    first = best(c for c in result.candidates if c["iteration"] == 0)
    chosen = next(
        c
        for c in result.candidates
        if (c["iteration"], c["response"]) == (result.iteration, result.response)
    )
    texts = list(dict.fromkeys([first["response"], chosen["response"]]))
    try:
        known = dict(
            zip(texts, await scored_once(reward_model, conversation, texts, scores), strict=True)
        )
    except RewardError as e:
        return replace(result, audit_error=error_line(e))
    audit = verdict(
        reward_model.name,
        (first, chosen),
        (known[first["response"]], known[chosen["response"]]),
        fall_back=fall_back,
    )
    answer = first if audit.fell_back else chosen
    return replace(
        result,
        response=answer["response"],
        reward=answer["reward"],
        iteration=answer["iteration"],
        audit=audit,
    )


def verdict(
    auditor: str,
    pair: tuple[Candidate, Candidate],
    scores: tuple[float, float],
    *,
    fall_back: bool,
) -> Audit:
    """What an auditor's scores of the best first sample and of the best of all say.

    Args:
        pair: those two, in this order, with the run's own rewards.
        scores: the auditor's.
    """
    (first, final), (before, after) = pair, scores
    overoptimized = final["reward"] > first["reward"] and after < before
    return Audit(auditor, before, after, overoptimized, fall_back and overoptimized)


async def scored_once(
    model: RewardModel,
    conversation: Sequence[Turn],
    texts: Sequence[str],
    cache: "SqlCache | None" = None,
) -> list[float]:
    """Scores of texts (in order), those that the cache has taken from it, the others put there.

    Raises:
        RewardError: the reward model failed.
    """
    if cache is None:
        return list(await checked_scores(model, conversation, texts))
    scores = Scores(reward_model=model.name, conversation=conversation_key(conversation))
    stored: Sequence[float | None] = [None for _ in texts]
    if reuses_scores(model):
        stored = await cache.known_rewards(scores, texts)
    found = {t: reward for t, reward in zip(texts, stored, strict=True) if reward is not None}
    missing = [text for text in dict.fromkeys(texts) if text not in found]
    fresh = dict(zip(missing, await checked_scores(model, conversation, missing), strict=True))
    await cache.remember(scores, fresh)
    found |= fresh
    return [found[text] for text in texts]
