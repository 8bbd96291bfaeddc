"""The unit of the cache: one scored response; which of several is best, and their numbers."""

from collections.abc import Iterable, Sequence
from statistics import fmean, pstdev
from typing import NotRequired, Self

from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12


class Score(float):
    """A score that says why: a plain float with a `reason`.

    Reward models may return plain numbers or these. The reason is kept with the candidate and shown
    to the critic; it never changes which response is better, and no reward model sees it::

        Score(0.5, "test_add failed: 3 != 4")
    """

    reason: str
    """What a critic can learn from, in a few sentences; "" when there is nothing to say."""

    def __new__(cls, value: float, reason: str = "") -> Self:
        score = super().__new__(cls, value)
        score.reason = reason
        return score


class Candidate(TypedDict):
    """One response with its reward: an entry of the cache C (paper, Algorithm 1).

    A plain dictionary, so that it can stand in the graph's state, in a checkpoint and in JSON.
    """

    iteration: int
    """0 for the first samples, i for those written by the i-th update."""
    position: int
    """Index among the samples of that iteration, from 0."""
    reward: float
    """The reward model's score of the response; finite."""
    response: str
    """The text, as the user would read it."""
    finish_reason: NotRequired[str]
    """Why the reply ended: "stop", "length" when the token limit cut it, or the provider's other
    word; absent when it gave none."""
    reason: NotRequired[str]
    """What the reward model said about it, in words; absent when it says nothing."""


def place(candidate: Candidate) -> str:
    """Where a person finds it: "iteration 1, sample 3". People count samples from 1."""
    return f"iteration {candidate['iteration']}, sample {candidate['position'] + 1}"


def is_cut(candidate: Candidate) -> bool:
    """Whether the token limit cut the response off: half an answer, whatever its reward."""
    return candidate.get("finish_reason") == "length"


def rank(candidate: Candidate) -> tuple[bool, float, int, int]:
    """Sorts candidates from the best down: whole ones before cut ones, then by reward, then the
    earliest first."""
    return (
        is_cut(candidate),
        -candidate["reward"],
        candidate["iteration"],
        candidate["position"],
    )


def best(candidates: Iterable[Candidate]) -> Candidate:
    """The candidate of the highest reward; ties go to the earliest (argmax of the cache).

    One that the token limit cut wins only where no whole one is.
    """
    return min(candidates, key=rank)


def worst(candidates: Iterable[Candidate]) -> Candidate:
    """The candidate of the lowest reward; ties go to the earliest (argmin of the cache)."""
    return min(candidates, key=lambda c: (c["reward"], c["iteration"], c["position"]))


class IterationSummary(TypedDict):
    """Rewards and lengths of one iteration's samples, for progress lines and tables."""

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
