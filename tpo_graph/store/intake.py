"""The rows of a batch's input, stored in bulk before any of them is run.

A row that is stored already as it is costs one comparison and no write, so that taking in a large
input again, to resume its batch, takes seconds.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, func, select, update

from tpo_graph.errors import ConfigurationError
from tpo_graph.rows import BadRow, Row
from tpo_graph.store.batches import with_runs
from tpo_graph.store.opening import Store
from tpo_graph.store.tables import BatchItemRow, RunRow
from tpo_graph.store.upserts import plain, upsert

_COLUMNS = tuple(column.name for column in BatchItemRow.__table__.columns)
_KEY = ("batch", "row_id")
_COPY = f"COPY {BatchItemRow.__tablename__} ({', '.join(_COLUMNS)}) FROM STDIN"
_ANALYZED = [1000 * 4**step for step in range(9)]
"""After how many rows of an input the table's statistics are renewed."""


async def put_rows(store: Store, name: str, start: int, rows: Sequence[Row | BadRow]) -> None:
    """Store some rows of the input, each with the id of the run that will answer it.

    Args:
        start: position of the first of them. All rows before it have been put already; those at 0
            begin a new input.

    Raises:
        ConfigurationError: a row that has its run asks something else now; two rows have one id;
            or a new input has nothing to do with the one that the batch was begun with.
    """
    await store.writer.run(lambda connection: _put(connection, name, start, rows))


async def end_rows(store: Store, name: str, count: int) -> None:
    """The input has ended after `count` rows: what an earlier one had behind them is left out."""
    gone = update(BatchItemRow).where(BatchItemRow.batch == name, BatchItemRow.position >= count)
    await store.writer.run(lambda connection: connection.execute(gone.values(position=None)))


def _put(connection: Connection, name: str, start: int, rows: Sequence[Row | BadRow]) -> None:
    known = _known(connection, name, [row.id for row in rows])
    if start == 0 and not known:
        _refuse_another_input(connection, name)
    end = start + len(rows)
    seen: set[str] = set()
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for position, run_id, row in zip(range(start, end), _run_ids(len(rows)), rows, strict=True):
        stored = known.get(row.id)
        if row.id in seen or (
            stored and stored["position"] is not None and stored["position"] < start
        ):
            raise ConfigurationError(f"two rows of the input have the id {row.id!r}")
        seen.add(row.id)
        item = _item(name, position, row, run_id, stored)
        if stored is None:
            new.append(item)
        elif any(item[column] != stored[column] for column in _COLUMNS):
            changed.append(item)
    # Rows of an earlier input that had these positions: they get others later, or are gone.
    here = BatchItemRow.batch == name, BatchItemRow.position.between(start, end - 1)
    others = set(connection.scalars(select(BatchItemRow.row_id).where(*here))) - seen
    if others:
        moved = update(BatchItemRow).where(*here, BatchItemRow.row_id.in_(others))
        connection.execute(moved.values(position=None))
    if changed:
        upsert(connection, BatchItemRow, changed, tuple(c for c in _COLUMNS if c not in _KEY))
    if new:
        _insert(connection, new)
    if end in _ANALYZED and connection.dialect.name == "postgresql":
        # Without statistics every look-up by id reads the whole batch, which autovacuum would fix
        # a minute later only. Who does not own the table gets a warning in the server's log.
        connection.exec_driver_sql("ANALYZE tpo_batch_rows")


def _known(connection: Connection, name: str, ids: list[str]) -> Mapping[str, Mapping[str, Any]]:
    columns = [getattr(BatchItemRow, column) for column in _COLUMNS]
    query = with_runs(*columns, RunRow.run_id.is_not(None).label("begun"))
    found = connection.execute(
        query.where(BatchItemRow.batch == name, BatchItemRow.row_id.in_(ids))
    )
    return {row["row_id"]: dict(row) for row in found.mappings()}


def _refuse_another_input(connection: Connection, name: str) -> None:
    of_batch = BatchItemRow.batch == name
    if before := connection.scalar(select(func.count()).where(of_batch)):
        raise ConfigurationError(
            f"the batch {name!r} has {before} rows, and none of them is among the first rows of "
            "this input: is it another one? Give it an output or a name of its own, or start over "
            "with --fresh (fresh=True)."
        )


def _run_ids(count: int) -> Iterator[str]:
    random = os.urandom(16 * count)  # at once: a system call for each takes longer than its row
    for at in range(0, len(random), 16):
        yield str(UUID(bytes=random[at : at + 16], version=4))


def _item(
    name: str, position: int, row: Row | BadRow, new_run: str, stored: Mapping[str, Any] | None
) -> dict[str, Any]:
    asked = list(row.conversation) if isinstance(row, Row) else None
    settings = dict(row.settings) if isinstance(row, Row) else {}
    same = stored and (asked, settings) == (stored["conversation"], stored["settings"])
    if stored and stored["begun"] and not same:
        what = "cannot be answered" if asked is None else "asks something else"
        raise ConfigurationError(
            f"row {row.id!r} {what} now, but its run {stored['run_id']!r} has begun. Give what it "
            "asks now an id of its own, or start over with --fresh (fresh=True)."
        )
    run_id = (stored and stored["run_id"]) or new_run
    return {
        "batch": name,
        "row_id": row.id,
        "position": position,
        "run_id": run_id if isinstance(row, Row) else None,
        "error": row.error
        if isinstance(row, BadRow)
        else stored["error"]
        if stored and same
        else None,
        "conversation": asked,
        "settings": settings,
        "columns": dict(row.columns),
    }


def _insert(connection: Connection, rows: list[dict[str, Any]]) -> None:
    if connection.dialect.name == "sqlite":
        upsert(connection, BatchItemRow, rows, ())
        return
    raw: Any = connection.connection.driver_connection
    with raw.cursor() as cursor, cursor.copy(_COPY) as copy:
        for row in rows:
            copy.write_row([plain(row[column], is_sqlite=False) for column in _COLUMNS])
