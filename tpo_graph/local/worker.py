"""One thread per loaded model: the event loop stays free, and calls to one model never overlap.

Several forward passes of one model at once are slower than one after the other, and its tokenizer
is not safe for several threads. Local policies and local reward models run on this.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

T = TypeVar("T")


class Worker:
    """Runs work on one thread of its own, in the order of arrival."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def start(self, work: Callable[[Event], T], cancelled: Event | None = None) -> Future[T]:
        """Queue `work` and return at once."""
        # A pool's thread does not live on in a forked child, where it would wait for ever.
        pool = self._pools.get(os.getpid())
        if pool is None:
            pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=self._name)
            pool = self._pools.setdefault(os.getpid(), pool)
        return pool.submit(work, cancelled or Event())

    def run(self, work: Callable[[Event], T]) -> T:
        """Wait for `work`; its argument is set when the caller has given up waiting."""
        cancelled = Event()
        future = self.start(work, cancelled)
        try:
            return future.result()
        except BaseException:
            cancelled.set()  # first: work that has begun looks at it between two steps
            future.cancel()
            raise

    async def arun(self, work: Callable[[Event], T]) -> T:
        """Like `run`, without blocking the event loop; cancelling the task sets the event."""
        cancelled = Event()
        future = self.start(work, cancelled)
        try:
            return await asyncio.wrap_future(future)
        except BaseException:
            cancelled.set()
            future.cancel()
            raise
