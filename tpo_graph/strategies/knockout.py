"""A knockout of pairwise comparisons among the candidates of the highest rewards.

Pairwise selection (arXiv 2603.12520) makes the last choice by comparing answers side by side
instead of by the argmax of single scores. Each comparison is asked twice with the places exchanged
(`rewards.pairwise`), so k finalists cost 2(k - 1) calls of the critic.
"""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from tpo_graph.candidates import Candidate, rank
from tpo_graph.errors import RewardError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from tpo_graph.conversation import Turn

_log = logging.getLogger(__name__)


class Comparer(Protocol):
    """What compares two answers; `PairwiseJudge` does."""

    async def compare(self, conversation: "Sequence[Turn]", first: str, second: str) -> float:
        """Above 0 where the first is better, below 0 where the second is."""
        ...


class Knockout:
    """Single elimination: the best by reward meets the last, and so on, until one is left.

    A tie, or a comparison without a verdict, goes to the higher reward.

    Args:
        k: how many finalists, at least 2.
        judge: compares; None asks the run's critic.
        name: of this object in settings; needed where a judge is given.
    """

    def __init__(self, k: int = 4, judge: Comparer | None = None, name: str | None = None) -> None:
        self.keep = k
        self._judge = judge
        self.name = name or f"knockout:{k}"

    def order(self, candidate: Candidate, scale: float, salt: str) -> Any:
        """See `Pick`."""
        return rank(candidate)

    async def __call__(
        self,
        finalists: Sequence[Candidate],
        conversation: "Sequence[Turn]",
        critic: "BaseChatModel",
    ) -> Candidate:
        """See `Pick`."""
        from tpo_graph.rewards.pairwise import PairwiseJudge

        judge = self._judge or PairwiseJudge(critic)
        left = list({c["response"]: c for c in reversed(finalists)}.values())[::-1]
        while len(left) > 1:
            half = (len(left) + 1) // 2
            outs = left[half:][::-1]  # the weakest meets the strongest; the middle may have a bye
            for place, other in enumerate(outs):
                if await _second_wins(judge, conversation, left[place], other):
                    left[place] = other
            left = sorted(left[:half], key=rank)
        return left[0]


async def _second_wins(
    judge: Comparer, conversation: "Sequence[Turn]", first: Candidate, second: Candidate
) -> bool:
    try:
        return await judge.compare(conversation, first["response"], second["response"]) < 0
    except RewardError as error:
        _log.warning("A comparison has no verdict, the higher reward wins it: %s", error)
        return False
