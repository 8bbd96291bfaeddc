"""Answers that are being made, and the requests that wait for them.

Requests for the same answer share it. When the last of them goes away its work is cancelled, which
stops the call in flight; what was paid for is in the store.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

from tpo_graph.serve.refusals import Refusal, other_request, refusal, stopped

T = TypeVar("T")
S = TypeVar("S")
Say = Callable[[str], None]
"""Tells everybody who waits a line of progress."""
Work = Callable[[Say], Awaitable[T]]

_KEPT = 64
"""Finished answers in memory: for repeated requests where there is no store to ask."""

logger = logging.getLogger("tpo_graph.serve")


class Live(Generic[T]):
    """One answer in the making."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint
        """Digest of what was asked."""
        self.followers = 0
        self.stopping = False
        """Its work was cancelled and has not ended yet."""
        self.task: asyncio.Task[T]
        self._lines: list[str] = []
        self._news = asyncio.Event()

    def say(self, line: str) -> None:
        """Tell everybody who follows, now or later."""
        self._lines.append(line)
        self.wake()

    def wake(self) -> None:
        """Let everybody who follows look again."""
        self._news.set()
        self._news = asyncio.Event()

    async def follow(self) -> AsyncGenerator[str]:
        """All lines from the first on, as they come, until the work ends."""
        seen = 0
        while True:
            while seen < len(self._lines):
                yield self._lines[seen]
                seen += 1
            if self.task.done():
                return
            await self._news.wait()

    async def answer(self) -> T:
        """What came of it.

        Raises:
            Refusal: nothing.
        """
        await asyncio.wait([self.task])
        if self.task.cancelled():
            raise stopped()
        error = self.task.exception()
        if error is not None:
            raise refusal(error) from error
        return self.task.result()


class Answers(Generic[T]):
    """All answers in the making in this process.

    Args:
        most: how many are worked on at once.
        queue: how many more may wait for that.
        keep: seconds for which a finished answer is given again.
        lasting: whether a finished answer is to be given again at all.
    """

    def __init__(
        self,
        most: int,
        queue: int,
        keep: float,
        lasting: Callable[[T], bool] = lambda _: True,
    ) -> None:
        self.draining = False
        self._lasting = lasting
        self._most, self._queue, self._keep = most, queue, keep
        self._slots = asyncio.Semaphore(most)
        self._live: dict[str, Live[T]] = {}
        self._beside: set[asyncio.Task[Any]] = set()
        self._finished: OrderedDict[str, tuple[float, Live[T]]] = OrderedDict()
        self._seconds = 10.0
        self.running = 0

    @property
    def waiting(self) -> int:
        """How many answers wait for their turn."""
        return len(self._live) - self.running

    def admit(self, key: str) -> None:
        """Let a request for this answer in.

        Raises:
            Refusal: there is no room, or the server is about to stop.
        """
        if self.draining:
            raise stopped()
        if key not in self._live and len(self._live) >= self._most + self._queue:
            waves = 1 + self.waiting // self._most
            raise Refusal(
                429,
                f"{self.running} runs are under way and {self.waiting} wait, which is all that "
                "this server takes. Send the same request again later.",
                code="rate_limit_exceeded",
                retry_after=min(60.0, self._seconds * waves),
            )

    @asynccontextmanager
    async def attached(self, key: str, fingerprint: str, work: Work[T]) -> AsyncGenerator[Live[T]]:
        """The answer of this key: the one that is there, or a new one that `work` makes.

        Args:
            fingerprint: what is asked; under one key it must be the same.

        Raises:
            Refusal: see `admit`; or the key stands for something else.
        """
        while (found := self._live.get(key)) is not None and found.stopping:
            await asyncio.wait([found.task])
        live = found or self._remembered(key) or self._begin(key, fingerprint, work)
        if live.fingerprint != fingerprint:
            raise other_request()
        live.followers += 1
        try:
            yield live
        finally:
            live.followers -= 1
            if live.followers == 0 and not live.task.done():
                live.stopping = True
                live.task.cancel()

    def beside(self, work: Coroutine[Any, Any, S]) -> asyncio.Task[S]:
        """A task that needs no room, such as the base model's own reply; `drain` ends it, too."""
        task = asyncio.create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)
        return task

    async def drain(self, seconds: float) -> None:
        """Take no more, let what is under way end for some time, then stop it."""
        self.draining = True
        tasks = [*self._beside, *(live.task for live in self._live.values())]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    def _begin(self, key: str, fingerprint: str, work: Work[T]) -> Live[T]:
        self.admit(key)
        live = Live[T](fingerprint)
        live.task = asyncio.create_task(self._work(live, work), name=f"tpo-answer-{key[:8]}")
        live.task.add_done_callback(lambda task: self._ended(key, live, task))
        self._live[key] = live
        return live

    async def _work(self, live: Live[T], work: Work[T]) -> T:
        if self._slots.locked():
            live.say(f"waiting for {self.waiting} earlier requests\n")
        async with self._slots:
            self.running += 1
            started = time.monotonic()
            try:
                return await work(live.say)
            finally:
                self.running -= 1
                self._seconds += 0.1 * (time.monotonic() - started - self._seconds)

    def _ended(self, key: str, live: Live[T], task: asyncio.Task[T]) -> None:
        del self._live[key]
        live.wake()
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            if refusal(error).status == 500:
                logger.error("an answer failed", exc_info=error)
            return
        if self._lasting(task.result()):
            self._finished[key] = time.monotonic(), live
        while len(self._finished) > _KEPT:
            self._finished.popitem(last=False)

    def _remembered(self, key: str) -> Live[T] | None:
        found = self._finished.get(key)
        if found is None or time.monotonic() - found[0] > self._keep:
            self._finished.pop(key, None)
            return None
        return found[1]
