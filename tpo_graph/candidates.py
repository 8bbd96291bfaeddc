"""The unit of the cache: one scored response, and which of several is best or worst."""

from collections.abc import Iterable
from typing import NotRequired

from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12


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

    Raises:
        ValueError: there is no candidate.
    """
    return min(candidates, key=rank)


def worst(candidates: Iterable[Candidate]) -> Candidate:
    """The candidate of the lowest reward; ties go to the earliest (argmin of the cache).

    Raises:
        ValueError: there is no candidate.
    """
    return min(candidates, key=lambda c: (c["reward"], c["iteration"], c["position"]))
