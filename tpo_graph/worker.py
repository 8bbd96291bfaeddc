"""One thread per loaded model: the event loop stays free, and calls to one model never overlap.

Several forward passes of one model at once are slower than one after the other, and its tokenizer
is not safe for several threads. Local policies and local reward models run on this.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

T = TypeVar("T")


class Worker:
    """Runs work on one thread of its own, in the order of arrival.

    Args:
        name: the thread's name, as debuggers show it.
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    def run(self, work: Callable[[Event], T]) -> T:
        """Wait for `work`; its argument is set when the caller has given up waiting."""
        cancelled = Event()
        future = self._pool.submit(work, cancelled)
        try:
            return future.result()
        except BaseException:
            _give_up(future.cancel, cancelled)
            raise

    async def arun(self, work: Callable[[Event], T]) -> T:
        """Like `run`, without blocking the event loop; cancelling the task sets the event."""
        cancelled = Event()
        future = self._pool.submit(work, cancelled)
        try:
            return await asyncio.wrap_future(future)
        except BaseException:
            _give_up(future.cancel, cancelled)
            raise


def _give_up(cancel: Callable[[], bool], cancelled: Event) -> None:
    cancelled.set()  # first: work that has begun looks at it between two steps
    cancel()
