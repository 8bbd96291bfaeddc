"""One queue of rows per reward model: whoever asks, rows are scored in batches under a budget.

Rows come from calls of any thread and event loop; a batch takes them from several calls. One
thread runs one batch after the other, and what arrives meanwhile joins the next.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from threading import Condition
from typing import NamedTuple

AHEAD = 4
"""Batches' worth of tokens that may wait; a caller with more waits for room."""


class Row(NamedTuple):
    """One input of the reward model."""

    ids: list[int]
    """Token ids of the conversation with one response."""
    shared: int = 0
    """How many of the first ids are those of all rows of the group; fewer than `ids`."""
    group: int = 0
    """Rows of one conversation have one group."""


Forward = Callable[[Sequence[Row]], list[float]]
"""A batch of rows -> their scores."""
Choose = Callable[[Sequence[Row], int], list[int]]
"""Waiting rows, the oldest first, and the budget -> indices of the next batch, never empty."""


def packed_batch(rows: Sequence[Row], budget: int) -> list[int]:
    """The oldest rows that fit, without padding and with each shared prefix counted once.

    The first row's prefix is not counted: the rows of a long conversation stay together, and a
    batch holds at most the budget and one prefix, or one row.
    """
    batch: list[int] = []
    seen: set[int] = set()
    total = 0
    for i, row in enumerate(rows):
        size = len(row.ids) - (row.shared if row.group in seen or not batch else 0)
        if batch and total + size > budget:
            break
        total += size
        seen.add(row.group)
        batch.append(i)
    return batch


def padded_batch(rows: Sequence[Row], budget: int) -> list[int]:
    """The oldest row and those nearest to it in length, as long as they fit, padding included."""
    lengths = [len(row.ids) for row in rows]
    batch: list[int] = []
    longest = 0
    for i in sorted(range(len(rows)), key=lambda i: abs(lengths[i] - lengths[0])):
        longest = max(longest, lengths[i])
        if batch and longest * (len(batch) + 1) > budget:
            break
        batch.append(i)
    return batch


class Scorer:
    """Scores rows of many calls, one batch at a time, on a thread of its own: batches of at most
    `budget` tokens, as `packed_batch` or `padded_batch` chooses them."""

    def __init__(self, name: str, forward: Forward, choose: Choose, budget: int) -> None:
        self._forward = forward
        self._choose = choose
        self._budget = budget
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._changed = Condition()
        self._waiting: list[_Waiting] = []
        self._running = False

    def put(self, rows: Sequence[list[int]], shared: int, future: "Future[list[float]]") -> None:
        """Queue the rows of one conversation, whose first `shared` ids are the same, and return
        once there was room for them.

        Blocks while the rows of others fill the queue: not for event loops. The future gets their
        scores, in order, or the error that scoring one of them raised. Rows not yet begun when it
        is cancelled are dropped.
        """
        call = _Call(future, len(rows))
        size = sum(map(len, rows))
        with self._changed:
            self._changed.wait_for(lambda: future.cancelled() or self._room(size))
            self._waiting += [
                _Waiting(Row(ids, shared, id(call)), call, i) for i, ids in enumerate(rows)
            ]
            if not self._running:
                self._running = True
                self._thread.submit(self._run)

    def _room(self, size: int) -> bool:
        waiting = sum(len(one.row.ids) for one in self._waiting)
        return not waiting or waiting + size <= AHEAD * self._budget

    def _run(self) -> None:
        while batch := self._next():
            self._score(batch)

    def _next(self) -> "list[_Waiting]":
        with self._changed:
            live = [one for one in self._waiting if not one.call.future.done()]
            chosen = self._choose([one.row for one in live], self._budget) if live else []
            taken = set(chosen)
            self._waiting = [one for i, one in enumerate(live) if i not in taken]
            self._running = bool(chosen)
            self._changed.notify_all()
            return [live[i] for i in chosen]

    def _score(self, batch: "Sequence[_Waiting]") -> None:
        try:
            scores = self._forward([one.row for one in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0].call.fail(error)
                return
            for one in batch:  # alone, so that a row fails its own call and no other
                if not one.call.future.done():
                    self._score([one])
            return
        for one, score in zip(batch, scores, strict=True):
            one.call.add(one.place, score)


class _Call:
    """Collects the scores of one call; used by the scoring thread alone."""

    def __init__(self, future: "Future[list[float]]", count: int) -> None:
        self.future = future
        self._scores = [0.0] * count
        self._missing = count

    def add(self, place: int, score: float) -> None:
        self._scores[place] = score
        self._missing -= 1
        if not self._missing:
            with suppress(InvalidStateError):  # cancelled meanwhile
                self.future.set_result(self._scores)

    def fail(self, error: Exception) -> None:
        with suppress(InvalidStateError):
            self.future.set_exception(error)


class _Waiting(NamedTuple):
    row: Row
    call: _Call
    place: int
    """Which row of the call."""
