"""Writing statements as data: made where the values are, executed together by one thread."""

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

Statement = tuple[str, list[Any]]
"""SQL in the driver's own parameter style, and the rows to execute it for."""


def execute(connection: Connection, statements: Iterable[Statement]) -> None:
    """Execute statements on the connection's own transaction, those of the same SQL together.

    Of different SQL, what appears first is executed first. Straight through the driver:
    SQLAlchemy's machinery costs several times what a row does.
    """
    together: dict[str, list[Any]] = {}
    for sql, rows in statements:
        together.setdefault(sql, []).extend(rows)
    raw: Any = connection.connection.driver_connection
    with _sent_at_once(connection, raw):
        cursor = raw.cursor()
        try:
            for sql, rows in together.items():
                cursor.executemany(sql, rows)
        finally:
            cursor.close()


@contextmanager
def _sent_at_once(connection: Connection, raw: Any) -> Generator[None]:
    if connection.dialect.name == "sqlite":
        yield
    else:  # without waiting for the answer to each: a pipeline costs one journey in all
        with raw.pipeline():
            yield


class Noted:
    """In a cursor's place: takes note of what would be written."""

    def __init__(self) -> None:
        self.statements: list[Statement] = []

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Note one row."""
        self.statements.append((sql, [parameters]))

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        """Note several."""
        self.statements.append((sql, list(rows)))
