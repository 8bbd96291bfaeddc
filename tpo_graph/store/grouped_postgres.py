"""LangGraph's PostgreSQL saver, with its writes in our writer's group commits.

The saver's own methods and SQL; only the cursor that they write with is another one. Opening a
pipeline on a pooled connection for each of thousands of small writes costs more than the writes.
"""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg_pool import AsyncConnectionPool
from sqlalchemy import Connection

from tpo_graph.store.writer import Writer

_Statement = tuple[str, list[Sequence[Any]]]


class GroupedPostgresSaver(AsyncPostgresSaver):
    """`AsyncPostgresSaver` on a pool for reading, and on the `Writer` for writing."""

    def __init__(
        self, pool: AsyncConnectionPool[Any], writer: Writer, serde: SerializerProtocol
    ) -> None:
        super().__init__(pool, serde=serde)
        self._writer = writer

    @asynccontextmanager
    async def _cursor(self, *, pipeline: bool = False) -> AsyncGenerator[Any]:  # pyright: ignore
        # The saver asks for a pipeline where it only writes.
        if not pipeline:
            async with super()._cursor() as cursor:
                yield cursor
            return
        statements = _Statements()
        yield statements
        await self._writer.run(statements.apply)


class _Statements:
    """A cursor that only takes note of what to write."""

    def __init__(self) -> None:
        self._noted: list[_Statement] = []

    async def execute(self, query: str, parameters: Sequence[Any] = ()) -> None:
        self._noted.append((query, [parameters]))

    async def executemany(self, query: str, rows: Iterable[Sequence[Any]]) -> None:
        self._noted.append((query, list(rows)))

    def apply(self, connection: Connection) -> None:
        """Write it."""
        raw: Any = connection.connection.driver_connection
        with raw.pipeline(), raw.cursor() as cursor:
            for query, rows in self._noted:
                cursor.executemany(query, rows)
