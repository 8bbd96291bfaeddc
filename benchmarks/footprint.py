"""What the package itself takes: CPU time to import it, and memory over a batch of many rows.

Each start is a process of its own, beside one of Python that imports nothing; given is the median
of the differences. The batch is asked of a server that answers at once, in a process of its own,
too: memory is what is resident after so many rows (Linux).

    python -m benchmarks.footprint [--starts 11] [--rows 5000] [--depth 1]
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.instant_server import instant_server

if TYPE_CHECKING:
    from tpo_graph.batch.progress import BatchProgress

STARTS = {
    "import tpo_graph": "import tpo_graph",
    "optimize, not called": "from tpo_graph import optimize",
    "tpo --help": "import sys, tpo_graph.cli; sys.argv = ['tpo', '--help']; tpo_graph.cli.main()",
}

WIDTH = 2


def seconds(code: str) -> float:
    """CPU time of a new process that runs this."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def resident() -> float:
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def batch(server: str, rows: int, depth: int) -> Iterator[str]:
    """Memory at some moments of a batch of so many rows."""
    from langchain_openai import ChatOpenAI

    from tpo_graph import make_rows, run_batch

    model = ChatOpenAI(model="instant", base_url=server, api_key="none")  # pyright: ignore
    yield f"memory at the start: {resident():.0f} MB"
    told: list[str] = []
    moments = [rows // 10, rows // 2, rows]

    def show(progress: "BatchProgress") -> None:
        while moments and progress.ended >= moments[0]:
            told.append(f"memory after {moments.pop(0)} rows: {resident():.0f} MB")

    began = time.process_time()
    with tempfile.TemporaryDirectory(prefix="tpo-bench-") as folder:
        run_batch(
            make_rows([f"Question {number}: why is it so?" for number in range(rows)]),
            name="footprint",
            database=f"sqlite:///{folder}/tpo.db",
            model=model,
            reward_model=longer,
            depth=depth,
            width=WIDTH,
            max_in_flight=32,
            on_progress=show,
        )
    yield from told
    yield f"CPU of this process: {1000 * (time.process_time() - began) / rows:.1f} ms a row"


def longer(_query: str, response: str) -> float:
    """Longer responses are better."""
    return float(len(response))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=11)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--depth", type=int, default=1)
    options = parser.parse_args(arguments)
    for code in STARTS.values():  # compiled once
        seconds(code)
    taken = [
        {what: seconds(code) - seconds("pass") for what, code in STARTS.items()}
        for _ in range(options.starts)
    ]
    for what in STARTS:
        print(f"{what}: {statistics.median(one[what] for one in taken):.2f} s of CPU", flush=True)
    with instant_server() as server:
        print(f"{options.rows} rows, D{options.depth}-N{WIDTH}, SQLite, 32 in flight")
        for line in batch(server, options.rows, options.depth):
            print(line, flush=True)


if __name__ == "__main__":
    main()
