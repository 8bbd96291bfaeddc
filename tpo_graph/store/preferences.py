"""Preference pairs of stored runs, as TRL's DPOTrainer and RewardTrainer read them."""

from itertools import combinations
from typing import TypedDict

from tpo_graph.candidates import Candidate, is_cut
from tpo_graph.conversation import Turn
from tpo_graph.store.trajectory import Trajectory


class Preference(TypedDict):
    """A preference pair in TRL's conversational format, with what it was made of."""

    prompt: list[Turn]
    chosen: list[Turn]
    rejected: list[Turn]
    score_chosen: float
    score_rejected: float
    score_margin: float
    """`score_chosen - score_rejected`, on the reward model's own scale. Not called
    `margin`: TRL's `RewardTrainer` would put a column of that name into its loss."""
    reward_model: str
    run_id: str


def preferences(
    trajectory: Trajectory,
    *,
    pairs: int | None = 1,
    min_margin: float = 0.0,
    include_cut: bool = False,
) -> list[Preference]:
    """Pairs of a run's candidates, those of the widest margin first: the first is best over worst.

    A text that occurs several times counts once, with its first reward: no pair is of equal texts.
    Of equal margins the earlier chosen one comes first, then the earlier rejected one.

    Args:
        pairs: maximum number; None for all.
        min_margin: rewards of a pair differ by at least so much, and in any case.
        include_cut: whether candidates that were cut off by a limit count.
    """
    texts: dict[str, Candidate] = {}
    for candidate in trajectory["candidates"]:
        if include_cut or not is_cut(candidate):
            texts.setdefault(candidate["response"], candidate)
    ordered = sorted(texts.values(), key=lambda c: (-c["reward"], c["iteration"], c["position"]))
    found = [
        (better, worse)
        for better, worse in combinations(ordered, 2)
        if (margin := better["reward"] - worse["reward"]) > 0 and margin >= min_margin
    ]
    found.sort(key=lambda pair: (pair[1]["reward"] - pair[0]["reward"], *map(_place, pair)))
    return [_preference(trajectory, *pair) for pair in found[:pairs]]


def _place(candidate: Candidate) -> tuple[int, int]:
    return candidate["iteration"], candidate["position"]


def _preference(trajectory: Trajectory, chosen: Candidate, rejected: Candidate) -> Preference:
    run = trajectory["run"]
    return Preference(
        prompt=run["conversation"],
        chosen=[Turn(role="assistant", content=chosen["response"])],
        rejected=[Turn(role="assistant", content=rejected["response"])],
        score_chosen=chosen["reward"],
        score_rejected=rejected["reward"],
        score_margin=chosen["reward"] - rejected["reward"],
        reward_model=run["reward_model"],
        run_id=run["run_id"],
    )
