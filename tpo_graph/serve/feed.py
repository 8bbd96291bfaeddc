"""A stream of the base model, drawn by a task of its own.

So its beginning can be waited for before the reply has a status, and the server can end it without
cutting off the reply, which then says why.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from tpo_graph.serve.refusals import stopped

T = TypeVar("T")

_AHEAD = 16
"""Items that are held for a client that reads slowly."""


class Feed(Generic[T]):
    """What a generator yields; it ends with the task that made it.

    Args:
        source: the generator.
        begin: makes a task, which may be cancelled when the server stops.
    """

    def __init__(
        self,
        source: AsyncGenerator[T],
        begin: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._ready: deque[T] = deque()
        self._room = asyncio.Semaphore(_AHEAD)
        self._news = asyncio.Event()
        self._task = begin(self._draw(source))
        self._task.add_done_callback(self._ended)
        if owner := asyncio.current_task():  # whatever becomes of the request, this goes with it
            owner.add_done_callback(lambda _: self._task.cancel())

    async def begun(self, seconds: float) -> None:
        """Wait for the first item, at most this long.

        Raises:
            Exception: what the generator raised before it.
            Refusal: the server stops.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return
        if not self._ready:
            self._end()

    async def read(self) -> AsyncGenerator[T]:
        """All items, as they come.

        Raises:
            Exception: what the generator raised.
            Refusal: the server stops.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            while self._ready:
                yield self._ready.popleft()
                self._room.release()
            if self._task.done():
                self._end()
                return

    async def _draw(self, source: AsyncGenerator[T]) -> None:
        async with aclosing(source):
            async for each in source:
                await self._room.acquire()
                self._ready.append(each)
                self._news.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._news.set()
        if not task.cancelled():
            task.exception()  # or asyncio complains where nobody reads any more

    def _end(self) -> None:
        if self._task.cancelled():
            raise stopped()
        if (error := self._task.exception()) is not None:
            raise error
