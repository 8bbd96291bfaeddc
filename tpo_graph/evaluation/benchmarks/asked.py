"""One model call per answer, all side by side; a call that fails is a row without a score."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from tpo_graph.concurrency.background import run_in_background
from tpo_graph.errors import RewardError
from tpo_graph.evaluation.benchmarks.outcomes import Answer
from tpo_graph.rewards.together import Slots, together

T = TypeVar("T")

_AT_ONCE = 64
"""Calls under way; judges and servers bound their own requests below that."""


def ask_each(
    answers: Sequence[Answer], call: Callable[[Answer], Awaitable[T]]
) -> tuple[dict[str, T], dict[str, str]]:
    """(row id -> result, row id -> error).

    Raises:
        RewardError: the first of them, when not one call succeeded.
    """
    slots = Slots(_AT_ONCE)

    async def one(answer: Answer) -> T | RewardError:
        async with slots.here():
            try:
                return await call(answer)
            except RewardError as error:
                return error

    found = run_in_background(together(one(answer) for answer in answers))
    results: dict[str, T] = {}
    errors: dict[str, str] = {}
    for answer, result in zip(answers, found, strict=True):
        if isinstance(result, RewardError):
            errors[answer.id] = str(result)
        else:
            results[answer.id] = result
    if errors and not results:
        raise next(error for error in found if isinstance(error, RewardError))
    return results, errors
