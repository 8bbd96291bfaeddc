"""Insert-or-overwrite, straight through the driver: SQL compiled once, no per-row machinery.

SQLAlchemy writes the statement and names the columns; `statements.execute` runs it.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, inspect
from sqlalchemy.dialects import postgresql, sqlite

from tpo_graph.store.statements import Statement, execute
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
    execute(connection, [upsertion(model, rows, columns, connection.dialect.name)])


def upsertion(
    model: type[Base],
    rows: Sequence[Mapping[str, Any]],
    columns: tuple[str, ...],
    dialect: str,
) -> Statement:
    """What `upsert` executes.

    Args:
        dialect: SQLAlchemy's name of the back end.
    """
    is_sqlite = dialect == "sqlite"
    sql = _sql(model, tuple(rows[0]), columns, is_sqlite)
    return sql, [{k: plain(v, is_sqlite=is_sqlite) for k, v in row.items()} for row in rows]


@lru_cache
def _sql(
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


def plain(value: Any, *, is_sqlite: bool) -> Any:
    """The value as SQLAlchemy's column types would hand it to the driver."""
    if isinstance(value, dict | list):
        return json.dumps(value)
    if is_sqlite and isinstance(value, datetime):
        return value.isoformat(" ", "microseconds")
    return value
