"""A large batch: seconds until its first row begins, new and resumed, and then rows per second.

The model's server answers at once. Seconds of CPU are this process's own, PostgreSQL's server not
counted; `read` is the cost of reading the input alone, by which machines can be compared.

    python -m benchmarks.intake [--rows 100000] [--answered 300] [--depth 2] [--in-flight 32]
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from langchain_openai import ChatOpenAI
from langgraph.runtime import RunControl

from benchmarks.instant_server import instant_server
from benchmarks.persistence import WIDTH, LengthReward, postgres
from tpo_graph.batch.job import arun_batch
from tpo_graph.batch.progress import BatchProgress
from tpo_graph.rows import read_rows


@dataclass
class Clock:
    """Wall and CPU seconds since it was made."""

    wall: float = field(default_factory=time.perf_counter)
    cpu: float = field(default_factory=time.process_time)

    def __str__(self) -> str:
        wall, cpu = time.perf_counter() - self.wall, time.process_time() - self.cpu
        return f"{wall:6.1f} s, CPU {cpu:6.1f} s"


def write_input(path: Path, rows: int) -> None:
    """Questions of some 250 characters, with an id and a column of their own."""
    text = "explain how this works and what to watch out for, " * 5
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            row = {"id": f"row-{number}", "prompt": f"Question {number}: {text}", "topic": "work"}
            file.write(json.dumps(row) + "\n")


async def answer(
    url: str, server: str, source: Path, answered: int, depth: int, in_flight: int
) -> tuple[str, str]:
    """Until the first row begins; how fast `answered` more rows are done."""
    model = ChatOpenAI(model="instant", base_url=server, api_key="none")  # pyright: ignore
    control, clock = RunControl(), Clock()
    first: list[str] = []
    begun: list[Clock] = []

    def show(progress: BatchProgress) -> None:
        if not first:  # told once before any row begins
            first.append(str(clock))
            begun.append(Clock())
        if progress.new >= answered:
            control.request_drain("enough")

    end = await arun_batch(
        read_rows(source),
        name="intake",
        database=url,
        model=model,
        reward_model=LengthReward(),
        depth=depth,
        width=WIDTH,
        max_in_flight=in_flight,
        on_progress=show,
        control=control,
    )
    wall, cpu = time.perf_counter() - begun[0].wall, time.process_time() - begun[0].cpu
    return first[0], f"{end.new / wall:.1f} rows a second, {1000 * cpu / end.new:.1f} ms CPU each"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--answered", type=int, default=300)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--in-flight", type=int, default=32)
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="tpo-bench-", dir=os.environ.get("TMPDIR")) as folder,
        postgres() as database,
        instant_server() as server,
    ):
        source = Path(folder) / "in.jsonl"
        write_input(source, options.rows)
        clock = Clock()
        count = sum(1 for _ in read_rows(source))
        print(f"{count} rows, D{options.depth}-N{WIDTH}, {options.in_flight} in flight")
        print(f"read                     {clock}", flush=True)
        for name, url in {"sqlite": f"sqlite:///{folder}/tpo.db", "postgresql": database}.items():
            for what in ("new", "resumed"):
                if url is not None:
                    how = (options.answered, options.depth, options.in_flight)
                    first, speed = asyncio.run(answer(url, server, source, *how))
                    print(f"{name:10} {what:7} begins {first}; then {speed}", flush=True)


if __name__ == "__main__":
    main()
