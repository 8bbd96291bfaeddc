"""LangGraph's PostgreSQL saver with its writes in our writer's group commits (see `grouped.py`)."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from langgraph.checkpoint.postgres import PostgresSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.serde.base import SerializerProtocol
from psycopg_pool import AsyncConnectionPool

from tpo_graph.store.grouped import Grouped
from tpo_graph.store.outbox import Outbox
from tpo_graph.store.statements import Noted
from tpo_graph.store.writer import Writer


class _PostgresTwin(PostgresSaver):
    noted: Noted

    def __init__(self, serde: SerializerProtocol) -> None:
        nothing: Any = None
        super().__init__(nothing, serde=serde)

    @contextmanager
    def _cursor(self, *, pipeline: bool = False) -> Generator[Any]:
        yield self.noted


class GroupedPostgresSaver(Grouped, AsyncPostgresSaver):  # pyright: ignore[reportIncompatibleMethodOverride]
    """`AsyncPostgresSaver` that reads from `pool` and writes through `writer`."""

    def __init__(
        self,
        pool: AsyncConnectionPool[Any],
        writer: Writer,
        outbox: Outbox,
        serde: SerializerProtocol,
    ) -> None:
        AsyncPostgresSaver.__init__(self, pool, serde=serde)
        self.twin, self.writer, self.outbox = _PostgresTwin(serde), writer, outbox
