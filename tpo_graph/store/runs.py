"""Stored runs as `tpo runs` lists, shows and continues them: the reading side of `tpo_runs`."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, Connection, Select, func, or_, select

from tpo_graph.cache import Run
from tpo_graph.conversation import storable
from tpo_graph.errors import ConfigurationError, RunNotFoundError
from tpo_graph.redaction import redacted, redacted_row
from tpo_graph.store.failures import explained
from tpo_graph.store.patience import again
from tpo_graph.store.reading import Readable
from tpo_graph.store.tables import BatchItemRow, CandidateRow, RunRow

T = TypeVar("T")


class StoredRun(Run):
    """A row of `tpo_runs`."""

    conversation_key: str
    launch: dict[str, Any] | None
    status: str
    """"running", "finished", "interrupted" or "failed"."""
    stop_reason: str | None
    """None until `select` ended the run; "failed" when a later step than the first selection did
    fail: there is an answer then."""
    error: str | None
    """One line about the failure."""
    created_at: datetime
    updated_at: datetime


class RunSummary(StoredRun):
    """A row of `tpo_runs` with the numbers a list shows."""

    best_reward: float | None
    """Highest reward so far; None before the first scoring."""
    candidates: int
    iterations: int
    """How many iterations are scored."""


_COLUMNS = [getattr(RunRow, name) for name in StoredRun.__annotations__]


async def read(store: Readable, work: Callable[[Connection], T]) -> T:
    """The result of `work(connection)`, off the event loop; failures are `StoreError`s.

    Where the store is open for writing, a server that restarts is waited for.
    """

    def once() -> T:
        with store.engine.connect() as connection:
            return work(connection)

    with explained(store.engine.url):
        return await asyncio.to_thread(again, once, store.patience)


async def get_run(store: Readable, run_id: str) -> StoredRun:
    """One run, or a `RunNotFoundError`."""
    run = await find_run(store, run_id)
    if run is None:
        raise _not_found(store, run_id)
    return run


async def find_run(store: Readable, run_id: str) -> StoredRun | None:
    """One run, or None when no such run is stored."""
    if not _can_be_stored(run_id):
        return None
    return await _one(store, select(*_COLUMNS).where(RunRow.run_id == run_id))


async def newest_run(store: Readable, first: str, last: str) -> StoredRun | None:
    """The run of the greatest id between two, both included; None when there is none."""
    query = select(*_COLUMNS).where(RunRow.run_id.between(first, last))
    return await _one(store, query.order_by(RunRow.run_id.desc()).limit(1))


async def _one(store: Readable, query: Select[*tuple[Any, ...]]) -> StoredRun | None:
    row = await read(store, lambda connection: connection.execute(query).mappings().one_or_none())
    return None if row is None else StoredRun(**redacted_row(row))  # type: ignore[typeddict-item]


async def whole_run_id(store: Readable, prefix: str) -> str:
    """The id of the one run whose id begins so; an id that is whole already is taken as it is.

    Raises:
        RunNotFoundError: there is none.
        ConfigurationError: there are several.
    """
    if not prefix or not _can_be_stored(prefix):
        raise _not_found(store, prefix)
    begins = func.substr(RunRow.run_id, 1, len(prefix)) == prefix
    # The whole id first: it may be the beginning of others.
    query = select(RunRow.run_id).where(begins).order_by(func.length(RunRow.run_id)).limit(6)
    found = await read(store, lambda connection: list(connection.scalars(query)))
    if not found:
        raise _not_found(store, prefix)
    if len(found) > 1 and found[0] != prefix:
        shown = ", ".join(sorted(found)[:5]) + (", ..." if len(found) > 5 else "")
        raise ConfigurationError(f"{prefix!r} is the beginning of several runs: {shown}")
    return found[0]


def _can_be_stored(run_id: object) -> bool:
    """Whether a database could hold this id; PostgreSQL does not even look for others."""
    return isinstance(run_id, str) and storable(run_id) == run_id


def _not_found(store: Readable, run_id: str) -> RunNotFoundError:
    return RunNotFoundError(
        f"no run {run_id!r:.200} is stored in {store.url!r}. List what there is with: tpo runs list"
    )


@dataclass(frozen=True)
class RunFilter:
    """Which runs are meant; None lets all pass.

    Raises:
        ConfigurationError: a value is not of its kind, or a text that no database can hold.
    """

    status: str | None = None
    model: str | None = None
    """Name of the policy."""
    reward_model: str | None = None
    """Name of the reward model, as it is stored or as it was given."""
    batch: str | None = None
    """Name of a batch whose rows they answer."""
    since: datetime | None = None
    """Begun then or later; UTC without a zone, as stored."""
    until: datetime | None = None
    """Begun before then."""

    def __post_init__(self) -> None:
        for name in ("status", "model", "reward_model", "batch"):
            given: object = getattr(self, name)
            if given is not None and not (isinstance(given, str) and storable(given) == given):
                raise ConfigurationError(f"{name}={given!r:.200} is not a text to look for")
        for name in ("since", "until"):
            given = getattr(self, name)
            if given is not None and not isinstance(given, datetime):
                raise ConfigurationError(f"{name}={given!r:.200} must be a datetime")

    def clauses(self) -> list[ColumnElement[bool]]:
        """What a query of `tpo_runs` adds to its `WHERE`."""
        found: list[ColumnElement[bool]] = []
        if self.status is not None:
            found.append(RunRow.status == self.status)
        if self.model is not None:
            found.append(RunRow.policy == self.model)
        if self.reward_model is not None:
            given, wanted = RunRow.launch["reward_model"].as_string(), redacted(self.reward_model)
            found.append(or_(RunRow.reward_model == wanted, given == wanted))
        if self.batch is not None:
            answering = select(BatchItemRow.run_id).where(
                BatchItemRow.batch == self.batch, BatchItemRow.run_id.is_not(None)
            )
            found.append(RunRow.run_id.in_(answering))
        if self.since is not None:
            found.append(RunRow.created_at >= self.since)
        if self.until is not None:
            found.append(RunRow.created_at < self.until)
        return found


EVERY_RUN = RunFilter()


async def list_runs(
    store: Readable, *, limit: int | None = 20, filters: RunFilter = EVERY_RUN
) -> list[RunSummary]:
    """Runs, the newest first.

    Args:
        limit: maximum number; None for all.
        filters: only runs that pass.
    """
    query = _summaries().where(*filters.clauses()).limit(limit)
    query = query.order_by(RunRow.created_at.desc(), RunRow.run_id.desc())
    rows = await read(store, lambda connection: connection.execute(query).mappings().all())
    return [RunSummary(**redacted_row(row)) for row in rows]  # type: ignore[typeddict-item]


async def filtered_run_ids(
    store: Readable, run_ids: Sequence[str] = (), filters: RunFilter = EVERY_RUN
) -> list[str]:
    """Ids of runs, the oldest first.

    Args:
        run_ids: which, in the order that is kept; all when empty.
        filters: only those of them that pass.
    """
    query = select(RunRow.run_id).where(*filters.clauses())
    query = query.order_by(RunRow.created_at, RunRow.run_id)
    passing = await read(store, lambda connection: list(connection.scalars(query)))
    known = set(passing)
    return [run_id for run_id in run_ids if run_id in known] if run_ids else passing


def _summaries() -> Select[*tuple[Any, ...]]:
    def of_run(value: Any) -> Any:
        return select(value).where(CandidateRow.run_id == RunRow.run_id).scalar_subquery()

    return select(
        *_COLUMNS,
        of_run(func.max(CandidateRow.reward)).label("best_reward"),
        of_run(func.count()).label("candidates"),
        of_run(func.count(CandidateRow.iteration.distinct())).label("iterations"),
    )


def settings_of(stored: object) -> dict[str, Any]:
    """A run's settings as they are stored; none where they are no mapping."""
    return cast("dict[str, Any]", stored) if isinstance(stored, dict) else {}


def takes_best(stored: object) -> bool:
    """Whether a run of these stored settings answers with its best candidate (`pick`)."""
    return settings_of(stored).get("pick", "argmax") == "argmax"
