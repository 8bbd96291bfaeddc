"""Who works on which run: a lease in `tpo_runs`, kept alive by a heartbeat.

LangGraph lets two processes run one thread at once, and the last checkpoint wins. A lease keeps the
second one out, until its owner ends, is seen to be dead, or has been silent for too long.
"""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from langgraph.errors import GraphDrained
from sqlalchemy import Connection, select, update

from tpo_graph.cache import Run
from tpo_graph.concurrency.outages import gave_up
from tpo_graph.concurrency.shielded import shielded
from tpo_graph.errors import (
    ConfigurationError,
    RunBusyError,
    RunExistsError,
    RunNotFoundError,
    StoreError,
    error_line,
)
from tpo_graph.redaction import redacted
from tpo_graph.store.cache import run_row
from tpo_graph.store.tables import RunRow, now
from tpo_graph.store.upserts import upsertion
from tpo_graph.store.writer import Writer

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 30.0
"""A lease without a heartbeat for so long may be taken over."""


class Leases:
    """The leases that one open store holds. A context manager: its heartbeat ends with it."""

    def __init__(self, writer: Writer) -> None:
        self.owner = f"{_machine()}|{os.getpid()}|{_started(os.getpid())}|{uuid4().hex[:8]}"
        self._writer = writer
        self._taken: set[str] = set()
        """Runs that some task of this process holds, is about to hold, or is letting go."""
        self._holders: dict[str, asyncio.Task[Any]] = {}
        """Who holds a lease for certain: its heartbeat refreshes it, and tells if it is lost."""
        self._lost: set[str] = set()
        self._beating: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._beating = asyncio.create_task(self._beat(), name="tpo-heartbeat")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._beating is not None:
            self._beating.cancel()
            with suppress(asyncio.CancelledError):
                await self._beating

    @asynccontextmanager
    async def hold(
        self, run_id: str, *, new: Run | None = None, launch: dict[str, Any] | None = None
    ) -> AsyncGenerator[None]:
        """Be the only one who works on the run, inside the `async with`; note how it ended.

        Args:
            new: the run, if it is to begin; None resumes a stored one.
            launch: for a new run, the names to load its models by.

        Raises:
            RunNotFoundError: no such run is stored.
            RunExistsError: a new run's id is taken.
            RunBusyError: another live process, or another task of this one, holds it; or took it
                over meanwhile because this process had been silent for too long.
        """
        task = asyncio.current_task()
        before: str | None = None
        assert task is not None
        if run_id in self._taken:
            raise RunBusyError(f"run {run_id!r} is being worked on in this very process")
        self._taken.add(run_id)
        try:
            before = await self._writer.run(
                lambda c: self._take(c, run_id) if new is None else self._begin(c, new, launch)
            )
            self._holders[run_id] = task
            try:
                yield
            finally:  # a heartbeat must not cancel what notes the end
                del self._holders[run_id]
            await self._end(run_id)
        except GraphDrained:
            await self._end(run_id, "interrupted")
            raise
        except asyncio.CancelledError:
            if run_id in self._lost and task.uncancel() == 0:
                raise RunBusyError(
                    f"run {run_id!r} was taken over by another process, because this one had given "
                    f"no sign of life for {STALE_SECONDS:.0f} seconds"
                ) from None
            await self._end(run_id, "interrupted")
            raise
        except RunBusyError:
            raise
        except ConfigurationError as e:
            # Nothing was run: why an earlier attempt failed must not be forgotten.
            await self._end(run_id, "failed", before or error_line(e))
            raise
        except Exception as e:
            # A server that is away is no fault of the run's.
            status = "failed" if gave_up(e) is None else "interrupted"
            await self._end(run_id, status, error_line(e))
            raise
        finally:
            self._taken.discard(run_id)
            self._lost.discard(run_id)

    def _begin(self, connection: Connection, run: Run, launch: dict[str, Any] | None) -> None:
        mine = {"lease_owner": self.owner, "lease_seen_at": now(), "launch": redacted(launch or {})}
        row = {**run_row(run), **mine}
        sql, (values,) = upsertion(RunRow, [row], (), connection.dialect.name)
        if connection.exec_driver_sql(sql, values).rowcount == 1:
            return
        owner = select(RunRow.lease_owner).where(RunRow.run_id == run["run_id"])
        if connection.scalar(owner) != self.owner:
            raise RunExistsError(
                f"a run {run['run_id']!r} is stored already. Resume it with `resume`, or give "
                "the new one another id."
            )

    def _take(self, connection: Connection, run_id: str) -> str | None:
        """Take the lease; the error of a run that had failed."""
        query = select(
            RunRow.lease_owner,
            RunRow.lease_seen_at,
            RunRow.stop_reason,
            RunRow.error,
        ).where(RunRow.run_id == run_id)
        row = connection.execute(query.with_for_update()).one_or_none()
        if row is None:
            raise RunNotFoundError(
                f"no run {run_id!r:.200} is stored here. List what there is with: tpo runs list"
            )
        refuse_if_alive(f"run {run_id!r}", row.lease_owner, row.lease_seen_at)
        taken = update(RunRow).where(RunRow.run_id == run_id)
        connection.execute(taken.values(lease_owner=self.owner, lease_seen_at=now()))
        if row.stop_reason is None:
            connection.execute(taken.values(status="running", error=None))
        return row.error

    async def _end(self, run_id: str, status: str | None = None, error: str | None = None) -> None:
        mine = update(RunRow).where(RunRow.run_id == run_id, RunRow.lease_owner == self.owner)
        free = mine.values(lease_owner=None, lease_seen_at=None)

        def work(connection: Connection) -> None:
            if status is not None:  # a run that `select` has ended stays as it ended
                noted = mine.where(RunRow.stop_reason.is_(None))
                connection.execute(noted.values(status=status, error=error, updated_at=now()))
            connection.execute(free)

        # Whatever ended the run matters more than a database that cannot take note of it.
        with suppress(StoreError):
            await shielded(self._writer.run(work))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            if self._holders:
                with suppress(StoreError):
                    lost = await self._writer.run(self._refresh)
                    for run_id in lost & self._holders.keys():
                        self._lost.add(run_id)
                        self._holders[run_id].cancel()

    def _refresh(self, connection: Connection) -> set[str]:
        connection.execute(
            update(RunRow)
            .where(RunRow.run_id.in_(list(self._holders)), RunRow.lease_owner == self.owner)
            .values(lease_seen_at=now())
        )
        taken = select(RunRow.run_id).where(
            RunRow.run_id.in_(list(self._holders)),
            RunRow.lease_owner.is_not(None),
            RunRow.lease_owner != self.owner,
        )
        return set(connection.scalars(taken))


def refuse_if_alive(what: str, owner: str | None, seen_at: datetime | None) -> None:
    """Raise a `RunBusyError` where the owner is alive, as far as one can tell."""
    if owner is None or seen_at is None or _is_dead(owner):
        return
    silent = now() - seen_at
    if silent < timedelta(seconds=STALE_SECONDS):
        machine, process = owner.split("|")[:2]
        host = machine.partition(" pid:[")[0]
        raise RunBusyError(
            f"{what} is being worked on by process {process} on {host!r}, which gave a sign of "
            f"life {silent.total_seconds():.0f} s ago. Wait for it, or end it; it can be taken "
            f"over after {STALE_SECONDS:.0f} s of silence."
        )


def _is_dead(owner: str) -> bool:
    """Whether the owner certainly ended: a process of this machine that is no more."""
    machine, process, started = owner.split("|")[:3]
    return machine == _machine() and started != "" and _started(int(process)) != started


def _machine() -> str:
    """This host, and inside it the namespace in which process ids count."""
    with suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _started(process: int) -> str:
    """When the process started, in the kernel's words: tells it from a later one of the same id.

    Empty where the system does not say (then only silence proves a death), or it is no more.
    """
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
