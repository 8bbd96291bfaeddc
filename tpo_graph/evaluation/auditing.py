"""Scores of final answers by a held-out reward model, which no method optimised.

Known scores come from the database's score cache and new ones go there, so that a comparison that
is resumed pays for none again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tpo_graph.conversation import Turn
from tpo_graph.errors import RewardInputError
from tpo_graph.evaluation.finished import Finished
from tpo_graph.rewards import RewardModel
from tpo_graph.rewards.together import Slots, together
from tpo_graph.session.audit import scored_once
from tpo_graph.store import Store

_AT_ONCE = Slots(32)
"""Prompts whose answers are being scored; the reward model has its own bound too."""


@dataclass(frozen=True)
class Audit:
    """Scores by prompt and answer."""

    name: str
    """Of the held-out reward model."""
    scores: Mapping[tuple[str, str], float]
    """(row id, response) -> score."""
    failed: int
    """Prompts whose answers it cannot score."""
    error: str | None
    """The first reason."""

    def of(self, run: Finished) -> float | None:
        """The score of a run's answer."""
        return self.scores.get((run.row_id, run.response))


async def audit_answers(
    reward_model: RewardModel,
    runs: Iterable[Finished],
    conversations: Mapping[str, Sequence[Turn]],
    store: Store,
) -> Audit:
    """Score the answers of all runs; equal answers to one prompt are scored once.

    Raises:
        RewardError: the reward model failed, other than by a text that it cannot score.
    """
    texts: dict[str, dict[str, None]] = {}
    for run in runs:
        texts.setdefault(run.row_id, {})[run.response] = None
    scores: dict[tuple[str, str], float] = {}

    async def score(row_id: str) -> str | None:
        """What is wrong, if anything is."""
        responses = list(texts[row_id])
        async with _AT_ONCE.here():
            try:
                found = await scored_once(
                    reward_model, conversations[row_id], responses, store.cache
                )
            except RewardInputError as e:
                return str(e)
        scores.update(zip([(row_id, text) for text in responses], found, strict=True))
        return None

    errors = [error for error in await together(map(score, texts)) if error is not None]
    return Audit(reward_model.name, scores, len(errors), errors[0] if errors else None)
