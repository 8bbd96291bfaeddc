"""The writing side of batches: who works on one, the rows that are to run, errors.

`batch/job.py` calls it, one process at a time; `intake.py` stores the input's rows, `batches.py`
reads.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, delete, func, or_, select, update

from tpo_graph.concurrency.shielded import shielded
from tpo_graph.conversation import Turn
from tpo_graph.errors import StoreError
from tpo_graph.store.batches import STATUS, StoredBatch, select_batch, with_runs
from tpo_graph.store.failures import explained
from tpo_graph.store.leases import HEARTBEAT_SECONDS, refuse_if_alive
from tpo_graph.store.opening import Store
from tpo_graph.store.tables import BatchItemRow, BatchRow, now
from tpo_graph.store.upserts import upsert

_PAGE = 200
"""Jobs read in one transaction."""


@dataclass(frozen=True)
class ToDo:
    """A row whose run must be started or resumed."""

    position: int
    run_id: str
    conversation: list[Turn]
    settings: dict[str, Any]
    """The row's own."""
    failed: bool
    """Whether it has an error, and is retried."""


@asynccontextmanager
async def hold_batch(
    store: Store, name: str, settings: dict[str, Any], launch: dict[str, Any]
) -> AsyncGenerator[StoredBatch | None]:
    """Be the only one who works on the batch, inside the `async with`; gives what it was before.

    Args:
        settings, launch: of the batch, if it is new.

    Raises:
        RunBusyError: another live process works on it.
    """

    def take(connection: Connection) -> StoredBatch | None:
        before = select_batch(connection, name)
        mine = {"lease_owner": store.leases.owner, "lease_seen_at": now()}
        if before is None:
            times = {"created_at": now(), "updated_at": now()}
            row = {"name": name, "settings": settings, "launch": launch, "source": None}
            upsert(connection, BatchRow, [{**row, **times, **mine}], ())
        query = select(BatchRow.lease_owner, BatchRow.lease_seen_at).where(BatchRow.name == name)
        owner, seen_at = connection.execute(query.with_for_update()).one()
        if owner != store.leases.owner or before is not None:
            refuse_if_alive(f"the batch {name!r}", owner, seen_at)
            connection.execute(update(BatchRow).where(BatchRow.name == name).values(mine))
        return before

    before = await store.writer.run(take)
    own = update(BatchRow).where(BatchRow.name == name, BatchRow.lease_owner == store.leases.owner)

    async def beat() -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            with suppress(StoreError):
                await store.writer.run(lambda c: c.execute(own.values(lease_seen_at=now())))

    beating = asyncio.create_task(beat(), name="tpo-batch-heartbeat")
    try:
        yield before
    finally:
        beating.cancel()
        ended = own.values(lease_owner=None, lease_seen_at=None, updated_at=now())
        with suppress(StoreError):
            await shielded(store.writer.run(lambda c: c.execute(ended)))


async def begin_batch(
    store: Store,
    name: str,
    settings: dict[str, Any],
    launch: dict[str, Any],
    source: str | None,
    *,
    forget: bool,
) -> None:
    """Note with what the batch is run from now on.

    Args:
        forget: drop the rows that it had. Their runs stay.
    """

    def work(connection: Connection) -> None:
        values = {"settings": settings, "launch": launch, "source": source, "updated_at": now()}
        connection.execute(update(BatchRow).where(BatchRow.name == name).values(values))
        if forget:
            connection.execute(delete(BatchItemRow).where(BatchItemRow.batch == name))

    await store.writer.run(work)


_TO_DO = [getattr(BatchItemRow, name) for name in ToDo.__annotations__ if name != "failed"]
_FAILED = and_(STATUS == "failed", BatchItemRow.run_id.is_not(None))


class ToDos:
    """The rows of a batch to run, in order; read a page at a time, when needed.

    Sized, so that an engine knows when the last ones come.

    Args:
        retry_failed: whether those that have failed are among them.
        only: positions of some that have failed; no others then.
    """

    def __init__(
        self, store: Store, name: str, *, retry_failed: bool, only: Collection[int] | None = None
    ) -> None:
        self._store = store
        self._only = only
        wanted = STATUS.in_(["waiting", "running", "interrupted"])
        if only is not None:
            wanted = _FAILED
        elif retry_failed:
            wanted = or_(wanted, _FAILED)
        where = BatchItemRow.batch == name, BatchItemRow.position.is_not(None), wanted
        failed = case((_FAILED, True), else_=False).label("failed")
        query = with_runs(*_TO_DO, failed).where(*where).order_by(BatchItemRow.position)
        self._query = query.limit(_PAGE)
        if only is not None:
            self._count = len(only)
            return
        count = with_runs(func.count()).where(*where)
        with explained(store.engine.url), store.engine.connect() as connection:
            self._count = connection.scalar(count) or 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[ToDo]:
        last = -1
        while True:
            page = self._query.where(BatchItemRow.position > last)
            with explained(self._store.engine.url), self._store.engine.connect() as connection:
                rows = connection.execute(page).mappings().all()
            for row in rows:
                if self._only is None or row["position"] in self._only:
                    yield ToDo(**row)
            if len(rows) < _PAGE:
                return
            last = rows[-1]["position"]


async def note_error(store: Store, name: str, position: int, error: str | None) -> None:
    """Note why a row failed; None takes back what was noted before."""
    noted = update(BatchItemRow).where(
        BatchItemRow.batch == name, BatchItemRow.position == position
    )
    await store.writer.run(lambda connection: connection.execute(noted.values(error=error)))
