"""Runs the migrations: on the connection that tpo_graph gives, or on TPO_DATABASE_URL by hand."""

import os

from alembic import context
from sqlalchemy import Connection

from tpo_graph.store.tables import PREFIX, VERSION_TABLE, Base
from tpo_graph.store.urls import make_engine, parse_url


def _ours(name: str | None, kind: str, parents: dict[str, str | None]) -> bool:
    # LangGraph's tables, or a parent application's, may be beside ours: never look at them.
    table = name if kind == "table" else parents.get("table_name")
    return kind == "schema" or (table or "").startswith(PREFIX)


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        version_table=VERSION_TABLE,
        include_name=_ours,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


def _by_hand() -> None:
    url = context.get_x_argument(as_dictionary=True).get("url") or os.environ.get(
        "TPO_DATABASE_URL", "sqlite:///tpo.db"
    )
    with make_engine(parse_url(url)).begin() as connection:
        _migrate(connection)


given = context.config.attributes.get("connection")
if given is not None:
    _migrate(given)
else:
    _by_hand()
