"""Batches in the database, as they are read: their rows, which run answers each, what became of it.

`batch_rows.py` writes them; the output file, comparisons and reports read here.
"""

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypedDict

from sqlalchemy import Connection, Select, and_, case, func, select

from tpo_graph.errors import RunNotFoundError
from tpo_graph.redaction import redacted_row
from tpo_graph.store.cache import read_usage
from tpo_graph.store.opening import Store
from tpo_graph.store.runs import read
from tpo_graph.store.tables import BatchItemRow, BatchRow, CandidateRow, RunRow, UsageRow
from tpo_graph.usage import Ledger

_PAGE = 200
"""Rows read in one transaction."""

STATUS = case(
    (BatchItemRow.error.is_not(None), "failed"),
    (RunRow.status.is_(None), "waiting"),
    # The database's failure is no fault of the row's: it resumes as after a crash.
    (and_(RunRow.status == "failed", RunRow.error.like("StoreError:%")), "interrupted"),
    else_=RunRow.status,
)
"""What became of a row, in SQL: see `BatchItem.status`."""


class StoredBatch(TypedDict):
    """A row of `tpo_batches`."""

    name: str
    created_at: datetime
    updated_at: datetime
    settings: dict[str, Any]
    launch: dict[str, Any]
    source: str | None


class BatchSummary(StoredBatch):
    """A batch with how many rows of its newest input there are, by what became of them."""

    total: int
    finished: int
    failed: int


@dataclass(frozen=True)
class BatchItem:
    """One row of a batch."""

    position: int
    """Its place in the input."""
    row_id: str
    run_id: str | None
    """The run that answers it, begun or not; None for a row that cannot be answered."""
    status: str
    """"finished" or "failed"; "waiting" before its run begins, "running" while it runs (or after
    a crash), "interrupted" after a stop. A finished run whose audit failed is "failed" too."""
    error: str | None
    """Of the row, or of its run."""
    stop_reason: str | None
    """Of its run."""
    columns: Mapping[str, Any]
    """All columns of the input but the id."""
    begun: bool
    """Its run has begun, so that it is stored."""

    @property
    def stored_run_id(self) -> str | None:
        """The id of its run, for those who look it up; None while there is nothing to find."""
        return self.run_id if self.begun else None


@dataclass(frozen=True)
class Totals:
    """Some rows of a batch, added up."""

    counts: dict[str, int]
    """How many rows there are, by status."""
    usage: Ledger
    gain: float
    """Sum of the best reward minus that of the best first sample, over finished runs."""
    answered_with_error: int
    """Failed rows whose runs have a scored response."""


async def get_batch(store: Store, name: str) -> StoredBatch:
    """One batch, or a `RunNotFoundError`."""
    batch = await find_batch(store, name)
    if batch is None:
        raise RunNotFoundError(
            f"no batch {name!r:.200} is stored in {store.url!r}. List what there is with: tpo "
            "batches list"
        )
    return batch


async def find_batch(store: Store, name: str) -> StoredBatch | None:
    """One batch, or None when no such batch is stored."""
    return await read(store, lambda connection: select_batch(connection, name))


async def find_batch_or_output(store: Store, given: str) -> StoredBatch | None:
    """The batch of that name, or else the one that is named after the output file `given`."""

    def look(connection: Connection) -> StoredBatch | None:
        called = select_batch(connection, given)
        return called or select_batch(connection, _as_output(given))

    return await read(store, look)


def _as_output(given: str) -> str:
    try:
        return str(Path(given).resolve())
    except (ValueError, RuntimeError):  # a zero byte, or links in a circle: it names no file
        return given


async def get_batch_or_output(store: Store, given: str) -> StoredBatch:
    """`find_batch_or_output`, or a `RunNotFoundError`."""
    return await find_batch_or_output(store, given) or await get_batch(store, given)


def select_batch(connection: Connection, name: str) -> StoredBatch | None:
    """See `find_batch`."""
    query = select(*_BATCH_COLUMNS).where(BatchRow.name == name)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else StoredBatch(**redacted_row(row))  # type: ignore[typeddict-item]


async def list_batches(store: Store) -> list[BatchSummary]:
    """All batches, the one last worked on first."""
    batches = select(*_BATCH_COLUMNS).order_by(BatchRow.updated_at.desc(), BatchRow.name)
    counted = (
        with_runs(BatchItemRow.batch, STATUS, func.count())
        .where(BatchItemRow.position.is_not(None))
        .group_by(BatchItemRow.batch, STATUS)
    )

    def work(connection: Connection) -> list[BatchSummary]:
        counts: dict[str, dict[str, int]] = {}
        for name, status, count in connection.execute(counted):
            counts.setdefault(name, {})[status] = count
        return [
            BatchSummary(
                **redacted_row(row),  # type: ignore[typeddict-item]
                total=sum(counts.get(row["name"], {}).values()),
                finished=counts.get(row["name"], {}).get("finished", 0),
                failed=counts.get(row["name"], {}).get("failed", 0),
            )
            for row in connection.execute(batches).mappings()
        ]

    return await read(store, work)


async def read_batch(store: Store, name: str) -> AsyncGenerator[BatchItem]:
    """The rows of a batch's newest input, in its order; a page of them in memory at a time.

    `read_trajectory(store, item.run_id)` gives all that is known of one that has begun.
    """
    async with aclosing(batch_pages(store, name)) as pages:
        async for page in pages:
            for item in page:
                yield item


async def batch_pages(store: Store, name: str) -> AsyncGenerator[list[BatchItem]]:
    """`read_batch`, a page at a time."""
    query = with_runs(
        BatchItemRow.position,
        BatchItemRow.row_id,
        BatchItemRow.run_id,
        STATUS.label("status"),
        func.coalesce(BatchItemRow.error, RunRow.error).label("error"),
        RunRow.stop_reason,
        BatchItemRow.columns,
        RunRow.run_id.is_not(None).label("begun"),
    )
    query = query.where(BatchItemRow.batch == name).order_by(BatchItemRow.position).limit(_PAGE)
    last = -1
    while True:
        page = query.where(BatchItemRow.position > last)
        rows = await read(store, lambda c, page=page: c.execute(page).mappings().all())
        if rows:
            yield [BatchItem(**row) for row in rows]
        if len(rows) < _PAGE:
            return
        last = rows[-1]["position"]


async def batch_totals(store: Store, name: str, statuses: Collection[str] | None = None) -> Totals:
    """Rows of the newest input, added up.

    Args:
        statuses: whose usage to add up; None: everybody's. All are counted.
    """
    return await read(store, lambda connection: _totals(connection, name, statuses))


def _totals(connection: Connection, name: str, statuses: Collection[str] | None) -> Totals:
    here = BatchItemRow.batch == name, BatchItemRow.position.is_not(None)
    counted = with_runs(STATUS, func.count()).where(*here).group_by(STATUS)
    chosen = with_runs(BatchItemRow.run_id).where(*here, BatchItemRow.run_id.is_not(None))
    if statuses is not None:
        chosen = chosen.where(STATUS.in_(statuses))

    def top(*where: Any) -> Any:
        best = select(func.max(CandidateRow.reward)).where(
            CandidateRow.run_id == BatchItemRow.run_id, *where
        )
        return best.correlate(BatchItemRow).scalar_subquery()

    gained = with_runs(func.sum(top() - top(CandidateRow.iteration == 0))).where(
        *here, STATUS == "finished"
    )
    ledger: Ledger = dict(read_usage(connection, [UsageRow.stage], UsageRow.run_id.in_(chosen)))
    counts = {str(status): int(count) for status, count in connection.execute(counted)}
    scored = select(CandidateRow.run_id).where(CandidateRow.run_id == BatchItemRow.run_id)
    both = with_runs(func.count()).where(*here, STATUS == "failed", scored.exists())
    return Totals(counts, ledger, connection.scalar(gained) or 0.0, connection.scalar(both) or 0)


def with_runs(*columns: Any) -> Select[*tuple[Any, ...]]:
    """Columns of rows of batches, beside the runs that answer them (those that have begun)."""
    runs = RunRow.run_id == BatchItemRow.run_id
    return select(*columns).select_from(BatchItemRow).outerjoin(RunRow, runs)


_BATCH_COLUMNS = [getattr(BatchRow, name) for name in StoredBatch.__annotations__]
