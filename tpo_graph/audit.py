"""The held-out audit: a second reward model looks at the first best and at the final answer.

What is optimised stops being a good measure. A reward model of another lineage that took no part in
the run tells whether the answer got better or only the number did.
"""

from collections.abc import Sequence
from dataclasses import replace

from langchain_core.messages import BaseMessage

from tpo_graph.candidates import best
from tpo_graph.conversation import turns
from tpo_graph.result import Audit, TPOResult
from tpo_graph.rewards import RewardModel, checked_scores


async def audited(
    result: TPOResult,
    messages: Sequence[BaseMessage],
    reward_model: RewardModel,
    *,
    fall_back: bool = False,
) -> TPOResult:
    """The result with its audit.

    Args:
        result: a finished run.
        messages: the conversation that it answered.
        reward_model: the auditor; it should share neither data nor lineage with the run's own.
        fall_back: answer with the best first sample where the run was over-optimised.

    Raises:
        RewardError: the auditor failed.
    """
    first = best(c for c in result.candidates if c["iteration"] == 0)
    texts = list(dict.fromkeys([first["response"], result.response]))
    scores = dict(
        zip(texts, await checked_scores(reward_model, turns(messages), texts), strict=True)
    )
    before, after = scores[first["response"]], scores[result.response]
    overoptimized = result.reward > first["reward"] and after < before
    back = fall_back and overoptimized
    audit = Audit(reward_model.name, before, after, overoptimized, back)
    if not back:
        return replace(result, audit=audit)
    return replace(
        result,
        response=first["response"],
        reward=first["reward"],
        iteration=first["iteration"],
        audit=audit,
    )
