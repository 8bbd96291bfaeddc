"""The connection that LangGraph's SQLite saver writes through: into our writer's group commits.

The saver asks its connection for a statement and a commit, one checkpoint after the other; each is
a journey to aiosqlite's thread and a commit of its own. Here statements wait with their task until
it commits, then go to the `Writer` together: one journey, and one commit for many tasks. Reading
stays with aiosqlite.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self
from weakref import WeakKeyDictionary

import aiosqlite
from sqlalchemy import Connection

from tpo_graph.store.upserts import run
from tpo_graph.store.writer import Writer

_Statement = tuple[str, list[Sequence[Any]]]
_WRITES = ("INSERT", "DELETE", "UPDATE")


class GroupedConnection:
    """As much of `aiosqlite.Connection` as `AsyncSqliteSaver` uses once it is set up."""

    def __init__(self, reader: aiosqlite.Connection, writer: Writer) -> None:
        self._reader = reader
        self._writer = writer
        self._waiting: WeakKeyDictionary[asyncio.Task[Any], list[_Statement]] = WeakKeyDictionary()

    @asynccontextmanager
    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> AsyncGenerator[Any]:
        """Run a query, or keep a writing statement until `commit`."""
        if self.keeps(sql, [parameters]):
            yield None
        else:
            async with self._reader.execute(sql, parameters) as cursor:
                yield cursor

    @asynccontextmanager
    async def cursor(self) -> AsyncGenerator["_Cursor"]:
        """A cursor that does the same."""
        async with self._reader.cursor() as cursor:
            yield _Cursor(self, cursor)

    async def commit(self) -> None:
        """Return once what this task wrote is committed.

        Raises:
            StoreError: the database failed; nothing of it is stored.
        """
        statements = self._waiting.pop(_task(), [])
        if statements:
            await self._writer.run(lambda connection: _apply(connection, statements))

    def keeps(self, sql: str, rows: Iterable[Sequence[Any]]) -> bool:
        """Keep a writing statement for this task's commit; False for any other."""
        if not sql.lstrip().upper().startswith(_WRITES):
            return False
        self._waiting.setdefault(_task(), []).append((sql, list(rows)))
        return True


class _Cursor:
    def __init__(self, connection: GroupedConnection, cursor: aiosqlite.Cursor) -> None:
        self._connection = connection
        self._cursor = cursor

    async def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Self:
        if not self._connection.keeps(sql, [parameters]):
            await self._cursor.execute(sql, parameters)
        return self

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> Self:
        self._connection.keeps(sql, rows)
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __aiter__(self) -> Any:
        return self._cursor.__aiter__()


class NoLock:
    """In the saver's lock's place: tasks that share no statements need not wait for each other."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


def _task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _apply(connection: Connection, statements: list[_Statement]) -> None:
    for sql, rows in statements:
        run(connection, sql, rows)
