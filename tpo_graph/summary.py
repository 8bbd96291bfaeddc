"""One row of numbers per iteration: what progress lines, tables and plots are made of."""

from collections.abc import Sequence
from statistics import fmean, pstdev

from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from tpo_graph.candidates import Candidate


class IterationSummary(TypedDict):
    """Rewards and lengths of the samples of one iteration; no texts."""

    iteration: int
    n: int
    """How many usable samples there were; 0 for an update that gave none."""
    best_so_far: float
    """The highest reward of all iterations up to this one."""
    mean: float | None
    max: float | None
    min: float | None
    std: float | None
    """Population standard deviation of the rewards."""
    length: float | None
    """Mean length of the samples, in characters."""
    tokens: int
    """Prompt and completion tokens that this iteration cost."""


def summarize(
    iteration: int, candidates: Sequence[Candidate], best_so_far: float, tokens: int
) -> IterationSummary:
    """The row of one iteration; its statistics are None when it has no candidates."""
    rewards = [candidate["reward"] for candidate in candidates]
    some = bool(rewards)
    return IterationSummary(
        iteration=iteration,
        n=len(rewards),
        best_so_far=best_so_far,
        mean=fmean(rewards) if some else None,
        max=max(rewards) if some else None,
        min=min(rewards) if some else None,
        std=pstdev(rewards) if some else None,
        length=fmean(len(c["response"]) for c in candidates) if some else None,
        tokens=tokens,
    )
