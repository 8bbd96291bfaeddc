"""Calls side by side: all their results or the first failure, and a bound on how many at once."""

import asyncio
import weakref
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


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
