"""One model call per answer, all side by side; a call that fails is a row without a score."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from tpo_graph.concurrency.background import run_in_background
from tpo_graph.errors import RewardError
from tpo_graph.evaluation.benchmarks.outcomes import Answer

T = TypeVar("T")

_AT_ONCE = 64
"""Calls under way; judges and servers bound their own requests below that."""


def ask_each(
    answers: Iterable[Answer], call: Callable[[Answer], Awaitable[T]]
) -> tuple[dict[str, T], dict[str, str]]:
    """(row id -> result, row id -> error).

    Raises:
        RewardError: the first of them, when not one call succeeded.
    """
    return run_in_background(_ask_each(list(answers), call))


async def _ask_each(
    answers: list[Answer], call: Callable[[Answer], Awaitable[T]]
) -> tuple[dict[str, T], dict[str, str]]:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(answer: Answer) -> T | RewardError:
        async with slots:
            try:
                return await call(answer)
            except RewardError as error:
                return error

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(answer)) for answer in answers]
    results: dict[str, T] = {}
    errors: dict[str, RewardError] = {}
    for answer, task in zip(answers, tasks, strict=True):
        result = task.result()
        if isinstance(result, RewardError):
            errors[answer.id] = result
        else:
            results[answer.id] = result
    if errors and not results:
        raise next(iter(errors.values()))
    return results, {row: str(error) for row, error in errors.items()}
