"""Insert-or-overwrite, straight through the driver: SQL compiled once, no per-row machinery.

SQLAlchemy writes the statement and names the columns; executing it through SQLAlchemy would cost
several times what SQLite needs for the row.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, inspect
from sqlalchemy.dialects import postgresql, sqlite

from tpo_graph.store.tables import Base

_SQLITE = sqlite.dialect(paramstyle="named")
_POSTGRES = postgresql.psycopg.dialect()


def upsert(
    connection: Connection,
    model: type[Base],
    rows: Sequence[Mapping[str, Any]],
    columns: tuple[str, ...],
) -> None:
    """Insert rows of one shape; where the primary key exists already, overwrite `columns`."""
    is_sqlite = connection.dialect.name == "sqlite"
    sql = _statement(model, tuple(rows[0]), columns, is_sqlite)
    run(connection, sql, [{k: _plain(v, is_sqlite) for k, v in row.items()} for row in rows])


def run(connection: Connection, sql: str, rows: Iterable[Any]) -> None:
    """Execute a writing statement for each row, on the connection's own transaction."""
    raw: Any = connection.connection.driver_connection
    cursor = raw.cursor()
    try:
        cursor.executemany(sql, rows)
    finally:
        cursor.close()


@lru_cache
def _statement(
    model: type[Base], given: tuple[str, ...], columns: tuple[str, ...], is_sqlite: bool
) -> str:
    insert = (sqlite.insert if is_sqlite else postgresql.insert)(model)
    keys = [column.name for column in inspect(model).primary_key]
    if columns:
        statement = insert.on_conflict_do_update(
            index_elements=keys, set_={name: insert.excluded[name] for name in columns}
        )
    else:
        statement = insert.on_conflict_do_nothing(index_elements=keys)
    dialect = _SQLITE if is_sqlite else _POSTGRES
    return str(statement.compile(dialect=dialect, column_keys=list(given)))


def _plain(value: Any, is_sqlite: bool) -> Any:
    """The value as SQLAlchemy's column types would hand it to the driver."""
    if isinstance(value, dict | list):
        return json.dumps(value)
    if is_sqlite and isinstance(value, datetime):
        return value.isoformat(" ", "microseconds")
    return value
