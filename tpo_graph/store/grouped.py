"""LangGraph's savers with their writes in our writer's group commits, SQLite's here.

What a checkpoint's rows are is decided by the official savers alone: the sync twin of each makes
them, on a cursor that takes note of them. The async saver, with its own connection, reads.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from tpo_graph.store.history import drop_history
from tpo_graph.store.outbox import Outbox, Waiting
from tpo_graph.store.statements import Noted, Statement
from tpo_graph.store.writer import Writer


class Twin(Protocol):
    """A sync saver that writes nothing: `noted` has what it would have written."""

    noted: Noted

    def put(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: Any, new_versions: Any
    ) -> RunnableConfig: ...
    def put_writes(
        self, config: RunnableConfig, writes: Any, task_id: str, task_path: str = ""
    ) -> None: ...
    def delete_thread(self, thread_id: str) -> None: ...


class Grouped(BaseCheckpointSaver[Any]):
    """Mixed into an async saver, before it: writes go through the `Writer`.

    For the runs that this process holds (`Outbox`), a node's rows are committed with its
    checkpoint, and what only repeats the checkpoint that follows is not written at all.
    """

    twin: Twin
    writer: Writer
    outbox: Outbox

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """See `BaseCheckpointSaver.aget_tuple`."""
        waiting = self._waiting(config)
        if waiting is not None and waiting.blank:
            return None
        return await super().aget_tuple(config)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """See `BaseCheckpointSaver.aput`. Committed when it returns, but for one that waits."""
        waiting = self._waiting(config)
        place = config.get("configurable", {})
        stored = RunnableConfig(
            configurable={
                "thread_id": place["thread_id"],
                "checkpoint_ns": place["checkpoint_ns"],
                "checkpoint_id": checkpoint["id"],
            }
        )
        if waiting is None:
            await self.writer.write(self._rows(config, checkpoint, metadata, new_versions))
            return stored
        new_versions = {**waiting.versions, **new_versions}
        make = partial(self._rows, config, checkpoint, metadata, new_versions)
        if waiting.more_follows:
            waiting.late, waiting.versions, waiting.more_follows = make, new_versions, False
            return stored
        statements = [*waiting.rows, *make()]
        if waiting.finished:
            statements += drop_history(place["thread_id"], self.writer.dialect)
        waiting.rows, waiting.late, waiting.versions = [], None, {}
        waiting.blank = False
        await self.writer.write(statements)
        return stored

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """See `BaseCheckpointSaver.aput_writes`.

        Our runs have one task at a time, whose checkpoint follows at once and has all of it; only
        interrupts, errors and answers to them are in no checkpoint.
        """
        special = any(channel in WRITES_IDX_MAP for channel, _ in writes)
        if special or self._waiting(config) is None:
            await self.writer.write(
                self._noted(lambda: self.twin.put_writes(config, writes, task_id, task_path))
            )

    async def adelete_thread(self, thread_id: str) -> None:
        """See `BaseCheckpointSaver.adelete_thread`."""
        await self.writer.write(self._noted(lambda: self.twin.delete_thread(thread_id)))

    def _waiting(self, config: RunnableConfig) -> Waiting | None:
        place = config.get("configurable", {})
        return None if place.get("checkpoint_ns") else self.outbox.of(place["thread_id"])

    def _rows(self, *arguments: Any) -> list[Statement]:
        return self._noted(lambda: self.twin.put(*arguments))

    def _noted(self, put: Callable[[], object]) -> list[Statement]:
        self.twin.noted = Noted()
        put()
        return self.twin.noted.statements


class _SqliteTwin(SqliteSaver):
    noted: Noted

    def __init__(self, serde: SerializerProtocol) -> None:
        nothing: Any = None
        super().__init__(nothing, serde=serde)

    @contextmanager
    def cursor(self, transaction: bool = True) -> Generator[Any]:
        yield self.noted


class GroupedSqliteSaver(Grouped, AsyncSqliteSaver):  # pyright: ignore[reportIncompatibleMethodOverride]
    """`AsyncSqliteSaver` that reads on `connection` and writes through `writer`."""

    def __init__(
        self,
        connection: aiosqlite.Connection,
        writer: Writer,
        outbox: Outbox,
        serde: SerializerProtocol,
    ) -> None:
        AsyncSqliteSaver.__init__(self, connection, serde=serde)
        self.twin, self.writer, self.outbox = _SqliteTwin(serde), writer, outbox
