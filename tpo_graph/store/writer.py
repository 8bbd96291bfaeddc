"""One thread that writes all rows of a process, many callers' work in one commit.

Callers of any event loop hand over statements, or a function where an answer is needed, and wait
until it is committed. While one commit is under way others gather, and share the next; under load
a commit waits a moment for more of them, alone there is no delay.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from queue import SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from tenacity import RetryCallState

from tpo_graph.errors import StoreError
from tpo_graph.store.failures import in_our_words
from tpo_graph.store.patience import PATIENCE_SECONDS, Patience, retrying
from tpo_graph.store.upserts import Statement, execute
from tpo_graph.store.urls import shown

T = TypeVar("T")
Work = Callable[[Connection], Any]

_MOST_AT_ONCE = 256
_GATHERING_SECONDS = 0.003
"""How long a commit waits for company when the one before had some."""
_SILENT_SECONDS = 1.0
"""An outage that is shorter is not worth a line in a log."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Task:
    work: Work | list[Statement]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]


class Writer:
    """Runs functions on a connection, each inside a transaction, several in one where possible.

    Args:
        engine: where to connect. Its SQLite connections must be usable from another thread, as
            SQLAlchemy's are.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: SimpleQueue[_Task | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="tpo-writer", daemon=True)
        self._closed = False
        self._connection: Connection | None = None
        """The thread's own, kept: a checkout for each commit would cost PostgreSQL a journey."""
        self._again = retrying(self._is_over)
        self.patience = Patience()
        """With the server; LangGraph's saver has no more of it."""
        self._told = False
        self._thread.start()

    @property
    def dialect(self) -> str:
        """SQLAlchemy's name of the back end: "sqlite" or "postgresql"."""
        return self._engine.dialect.name

    async def write(self, statements: list[Statement]) -> None:
        """Return once the statements, which have to be idempotent, are committed.

        They share a commit with those of others, and one journey to the server.

        Raises:
            StoreError: the database failed; nothing of them is stored.
        """
        if statements:
            await self._done(statements)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """The result of `work(connection)`, once it is committed.

        `work` may be called more than once (after a lost connection, or because a neighbour's
        work failed), so what it writes has to be idempotent.

        Raises:
            StoreError: the database failed; nothing of `work` is stored.
        """
        return await self._done(work)

    async def _done(self, work: Work | list[Statement]) -> Any:
        if self._closed:
            raise StoreError("the store is closed. Open it again with open_store(...).")
        loop = asyncio.get_running_loop()
        task = _Task(work, loop, loop.create_future())
        self._queue.put(task)
        return await task.done

    def close(self) -> None:
        """Finish what was handed over and end the thread. Blocks."""
        if not self._closed:
            self._closed = True
            self._queue.put(None)
            self._thread.join()

    def _serve(self) -> None:
        batch: list[_Task] = []
        last = False
        try:
            while not last and (first := self._queue.get()) is not None:
                if len(batch) > 1:
                    time.sleep(_GATHERING_SECONDS)  # others will come, as they did before
                batch, last = self._gather(first)
                self._commit(batch)
        finally:
            self._disconnect()

    def _gather(self, first: _Task) -> tuple[list[_Task], bool]:
        batch = [first]
        while len(batch) < _MOST_AT_ONCE and not self._queue.empty():
            task = self._queue.get()
            if task is None:
                return batch, True
            batch.append(task)
        return batch, False

    def _commit(self, batch: list[_Task]) -> None:
        try:
            results = self._transact(batch)
        except Exception as e:
            if len(batch) > 1:  # one of them is at fault: the others must not suffer
                for task in batch:
                    self._commit([task])
            else:
                if (told := in_our_words(e, self._engine.url)) is not None:
                    told.__cause__ = e
                _settle(batch, error=told or e)
        else:
            _settle(batch, results)

    def _transact(self, batch: list[_Task]) -> list[Any]:
        results: list[Any] = self._again(self._once, batch)
        self.patience.answers()
        if self._told:
            self._told = False
            _log.warning("the database %r answers again", shown(self._engine.url))
        return results

    def _is_over(self, state: RetryCallState) -> bool:
        """Whether a transaction that failed is not tried again; a wait is told once."""
        failed = self.patience.fails()
        error = state.outcome and state.outcome.exception()
        if failed > _SILENT_SECONDS and not self._told and error is not None:
            self._told = True
            reason = in_our_words(error, self._engine.url)
            _log.warning("%s It is waited for, for %.0f s in all.", reason, PATIENCE_SECONDS)
        return self.patience.is_over()

    def _once(self, batch: list[_Task]) -> list[Any]:
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            with self._connection.begin() as transaction:
                connection = transaction.connection
                begin_write(connection)
                results = [t.work(connection) if callable(t.work) else None for t in batch]
                statements = [t.work for t in batch if not callable(t.work)]
                if statements:
                    execute(connection, chain.from_iterable(statements))
                return results
        except Exception:
            self._disconnect()  # the next one is looked at before it is used
            raise

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def begin_write(connection: Connection) -> None:
    """Take SQLite's write lock at once: a transaction that turns from reader into writer half way
    fails when another process wrote in between, however long it would have waited."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _settle(
    batch: list[_Task], results: list[Any] | None = None, error: Exception | None = None
) -> None:
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for index, task in enumerate(batch):
        result = results[index] if results is not None else None
        by_loop.setdefault(task.loop, []).append((task.done, result))
    for loop, settled in by_loop.items():
        # A caller's loop may be gone by now: then nobody waits for the answer.
        if not loop.is_closed():
            loop.call_soon_threadsafe(_deliver, settled, error)


def _deliver(settled: list[tuple[asyncio.Future[Any], Any]], error: Exception | None) -> None:
    for done, result in settled:
        if done.done():
            continue
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)
