"""Delete old runs: ours in SQL and LangGraph's checkpoints, a batch at a time."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, delete, func, or_, select, update

from tpo_graph.candidates import best
from tpo_graph.store.batches import get_batch
from tpo_graph.store.cache import read_candidates
from tpo_graph.store.history import both_threads
from tpo_graph.store.leases import STALE_SECONDS, refuse_if_alive
from tpo_graph.store.opening import Store
from tpo_graph.store.runs import read
from tpo_graph.store.tables import (
    BatchItemRow,
    BatchRow,
    CandidateRow,
    RewardRow,
    RunRow,
    StepRow,
    UnusableRow,
    UsageRow,
    now,
)

_BATCH = 100


async def prune(
    store: Store, before: datetime, *, keep_best: bool = False, dry_run: bool = False
) -> int:
    """Delete runs and batches that nobody works on, and known scores, of before a moment.

    Args:
        before: UTC, without a zone; runs and rewards created earlier go, and batches that were
            last worked on earlier.
        keep_best: keep the run itself, its usage and its best response, and all batches.
        dry_run: only count.

    Returns:
        How many runs were (or would be) pruned.
    """
    abandoned = RunRow.lease_seen_at < now() - timedelta(seconds=STALE_SECONDS)
    old = RunRow.created_at < before, or_(RunRow.lease_owner.is_(None), abandoned)
    if keep_best:  # those that were reduced to their best already have no steps any more
        old = *old, RunRow.run_id.in_(select(StepRow.run_id))
    query = select(RunRow.run_id, RunRow.thread_id, RunRow.launch).where(*old)
    rows = await read(store, lambda connection: connection.execute(query).all())
    if dry_run:
        return len(rows)
    await _delete_runs(store, rows, keep_best=keep_best)
    if not keep_best:  # their answers are gone
        ended = BatchRow.updated_at < before, BatchRow.lease_owner.is_(None)
        names = select(BatchRow.name).where(*ended)
        await store.writer.run(lambda connection: _delete_batches(connection, names))
    stale = delete(RewardRow).where(RewardRow.created_at < before)
    await store.writer.run(lambda connection: connection.execute(stale))
    return len(rows)


async def remove_batch(
    store: Store, name: str, *, runs: bool = False, dry_run: bool = False
) -> tuple[int, int]:
    """Delete one batch.

    Args:
        runs: also the runs that answer its rows.
        dry_run: only count.

    Returns:
        How many rows and how many runs were (or would be) deleted.

    Raises:
        RunNotFoundError: no such batch is stored.
        RunBusyError: a live process works on it.
    """
    await get_batch(store, name)
    mine = BatchItemRow.batch == name
    lease = select(BatchRow.lease_owner, BatchRow.lease_seen_at).where(BatchRow.name == name)
    answering = select(BatchItemRow.run_id).where(mine, BatchItemRow.run_id.is_not(None))
    query = select(RunRow.run_id, RunRow.thread_id, RunRow.launch).where(
        RunRow.run_id.in_(answering)
    )

    def look(connection: Connection) -> tuple[int, Sequence[Any]]:
        refuse_if_alive(f"the batch {name!r}", *connection.execute(lease).one())
        rows = connection.scalar(select(func.count()).select_from(BatchItemRow).where(mine))
        return rows or 0, connection.execute(query).all() if runs else []

    count, found = await read(store, look)
    if not dry_run:
        await _delete_runs(store, found)
        names = select(BatchRow.name).where(BatchRow.name == name)
        await store.writer.run(lambda connection: _delete_batches(connection, names))
    return count, len(found)


async def delete_run(store: Store, run_id: str) -> None:
    """Delete one run, which the caller holds."""
    await store.checkpointer.adelete_thread(run_id)
    await store.writer.run(lambda connection: _delete(connection, [run_id], False))


async def _delete_runs(store: Store, rows: Sequence[Any], *, keep_best: bool = False) -> None:
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH]
        for row in some:
            if row.launch is not None:  # a host graph's thread is the host's
                for thread in both_threads(row.run_id):
                    await store.checkpointer.adelete_thread(thread)
        ids = [row.run_id for row in some]
        await store.writer.run(lambda connection, ids=ids: _delete(connection, ids, keep_best))


def _delete(connection: Connection, ids: Sequence[str], keep_best: bool) -> None:
    # Children first and by name: an engine of a parent application may not enforce foreign keys.
    for child in (StepRow, UnusableRow):
        connection.execute(delete(child).where(child.run_id.in_(ids)))
    if keep_best:
        for run_id in ids:
            _reduce(connection, run_id)
        return
    for child in (CandidateRow, UsageRow, RunRow):
        connection.execute(delete(child).where(child.run_id.in_(ids)))


def _delete_batches(connection: Connection, names: Select[str]) -> None:
    connection.execute(delete(BatchItemRow).where(BatchItemRow.batch.in_(names)))
    connection.execute(delete(BatchRow).where(BatchRow.name.in_(names)))


def _reduce(connection: Connection, run_id: str) -> None:
    """Leave only the best candidate of a run, which can then not be resumed any more."""
    candidates = read_candidates(connection, run_id)
    if candidates:
        kept = best(candidates)
        connection.execute(
            delete(CandidateRow).where(
                CandidateRow.run_id == run_id,
                (CandidateRow.iteration != kept["iteration"])
                | (CandidateRow.position != kept["position"]),
            )
        )
    connection.execute(
        update(RunRow).where(RunRow.run_id == run_id).values(launch=None, thread_id=None)
    )
