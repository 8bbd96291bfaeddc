"""Insert-or-overwrite, straight through the driver: SQL compiled once, no per-row machinery.

SQLAlchemy writes a statement and names its columns; `execute` runs it with others.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, inspect, literal_column
from sqlalchemy.dialects import postgresql, sqlite

from tpo_graph.store.tables import Base

Statement = tuple[str, list[Any]]
"""SQL in the driver's own parameter style, and the rows to execute it for."""

_SQLITE = sqlite.dialect(paramstyle="named")
_POSTGRES = postgresql.psycopg.dialect()


def upsert(
    connection: Connection,
    model: type[Base],
    rows: Sequence[Mapping[str, Any]],
    columns: tuple[str, ...],
) -> None:
    """Insert rows of one shape; where the primary key exists already, overwrite `columns`."""
    execute(connection, [upsertion(model, rows, columns, connection.dialect.name)])


def upsertion(
    model: type[Base],
    rows: Sequence[Mapping[str, Any]],
    columns: tuple[str, ...],
    dialect: str,
    where_positive: str | None = None,
) -> Statement:
    """What `upsert` executes.

    Args:
        dialect: SQLAlchemy's name of the back end.
        where_positive: a column; only rows in which it is above 0 overwrite others.
    """
    is_sqlite = dialect == "sqlite"
    sql = _sql(model, tuple(rows[0]), columns, is_sqlite, where_positive)
    return sql, [{k: plain(v, is_sqlite=is_sqlite) for k, v in row.items()} for row in rows]


@lru_cache
def _sql(
    model: type[Base],
    given: tuple[str, ...],
    columns: tuple[str, ...],
    is_sqlite: bool,
    where_positive: str | None,
) -> str:
    insert = (sqlite.insert if is_sqlite else postgresql.insert)(model)
    keys = [column.name for column in inspect(model).primary_key]
    if columns:
        statement = insert.on_conflict_do_update(
            index_elements=keys,
            set_={name: insert.excluded[name] for name in columns},
            where=None
            if where_positive is None
            else insert.excluded[where_positive] > literal_column("0"),
        )
    else:
        statement = insert.on_conflict_do_nothing(index_elements=keys)
    dialect = _SQLITE if is_sqlite else _POSTGRES
    return str(statement.compile(dialect=dialect, column_keys=list(given)))


def plain(value: Any, *, is_sqlite: bool) -> Any:
    """The value as SQLAlchemy's column types would hand it to the driver."""
    if isinstance(value, dict | list):
        return json.dumps(value)
    if is_sqlite and isinstance(value, datetime):
        return value.isoformat(" ", "microseconds")
    return value


def execute(connection: Connection, statements: Iterable[Statement]) -> None:
    """Execute statements on the connection's own transaction, those of the same SQL together.

    Of different SQL, what appears first is executed first. Straight through the driver:
    SQLAlchemy's machinery costs several times what a row does.
    """
    together: dict[str, list[Any]] = {}
    for sql, rows in statements:
        together.setdefault(sql, []).extend(rows)
    raw: Any = connection.connection.driver_connection
    # A pipeline waits for no answer in between: it costs one journey to the server in all.
    with nullcontext() if connection.dialect.name == "sqlite" else raw.pipeline():
        cursor = raw.cursor()
        try:
            for sql, rows in together.items():
                cursor.executemany(sql, rows)
        finally:
            cursor.close()
