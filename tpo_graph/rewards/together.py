"""Calls side by side: all their results or the first failure, and a bound on how many at once.

What a call has scored is told as it ends, so that it is kept when one beside it fails.
"""

import asyncio
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")
S = TypeVar("S", bound=float)

_kept: ContextVar[dict[str, float] | None] = ContextVar("tpo_kept_scores", default=None)


async def together(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Results in order. The first failure cancels the other calls and is raised as it is."""
    failures: BaseExceptionGroup[BaseException] | None = None
    tasks: list[asyncio.Task[T]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(call) for call in calls]
    except BaseExceptionGroup as failed:
        failures = failed
    if failures is not None:
        raise failures.exceptions[0]
    return [task.result() for task in tasks]


async def scored_together(
    responses: Sequence[str], score: Callable[[str], Awaitable[S]]
) -> list[S]:
    """`together` for a call per response, each of whose scores is kept."""

    async def kept(response: str) -> S:
        value = await score(response)
        keep([response], [value])
        return value

    return await together(map(kept, responses))


@contextmanager
def keeping() -> Generator[dict[str, float]]:
    """What is told by `keep` in here, in tasks and threads begun in here as well."""
    found: dict[str, float] = {}
    token = _kept.set(found)
    try:
        yield found
    finally:
        _kept.reset(token)


def keep(responses: Sequence[str], scores: Sequence[float]) -> None:
    """A reward model says what it has scored while it is still asking for others.

    Should its `score` fail or be cancelled later, these are not asked for again.
    """
    found = _kept.get()
    if found is not None:
        found.update(zip(responses, scores, strict=True))


class Slots:
    """At most `count` holders at once in each event loop: a semaphore cannot serve two loops."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            weakref.WeakKeyDictionary()
        )

    def here(self) -> asyncio.Semaphore:
        """The running loop's semaphore."""
        return self._loops.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(self._count))
