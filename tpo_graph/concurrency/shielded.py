"""Work that goes on to its end when whoever waits for it is cancelled."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")


async def shielded(work: Awaitable[T]) -> T:
    """The result of `work`, which a cancellation of the caller does not stop.

    Where nobody waits any more, its error is dropped: what cancelled the caller is told instead,
    and asyncio would write a traceback for each (hundreds, when a disk is full).
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(_seen)
    return await asyncio.shield(task)


def _seen(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()
