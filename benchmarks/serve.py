"""What `tpo serve` costs: time per event with 200 streams at once, and memory over many requests.

`tpo serve` is a process of its own on a core of its own, with its database (SQLite) and its default
options; the model's server and the clients share the last core. All streams begin at the same time,
and each is one run that asks the model's server 1 + 3 D times.

*Latency of an event*: from the moment at which the model's server sends the reply that ends a step,
until the client has read the stream's line about that step; for the answer, from the last reply to
the chunk with the finish reason. One clock (`time.monotonic`) serves all processes. It holds all
that lies between: reading the reply, the graph, the database, scoring, HTTP.

*The server's own overhead*: that latency, less the latency of the same events of the same runs made
by `aoptimize` in a process without HTTP, as many at once, percentile by percentile. It may come out
below zero where it is less than the noise.

Two paces: replies that come at once keep the core busy from the first to the last, so latencies are
the length of the queue for the core; `--seconds` spreads the replies as a model does that writes.
For Linux, which shows other processes in /proc.

    python -m benchmarks.serve [--streams 200] [--seconds 4 12] [--requests 5000]
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from langchain_openai import ChatOpenAI

from benchmarks.instant_server import instant_server
from tpo_graph import aoptimize, open_store
from tpo_graph.events import Event

DEPTH, WIDTH = 2, 5
REWARDS = "def score(query: str, response: str) -> float:\n    return float(len(response))\n"
Moment = tuple[int, float]
"""A question's number, and when something happened to it (`time.monotonic`)."""


def question(number: int) -> str:
    """A query of about a hundred words."""
    return f"Question {number}: " + "explain how this works and what to watch out for, " * 10


class Measured(NamedTuple):
    """All runs of one side."""

    events: list[Moment]
    """In the order of each question's replies."""
    cpu: float
    """Seconds of the process that ran the graph."""
    wall: float


@dataclass(frozen=True)
class Process:
    """A process as Linux shows it."""

    pid: int

    @property
    def cpu(self) -> float:
        """Seconds of CPU so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def memory(self) -> float:
        """Resident memory in MB (10^6 bytes)."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def serving(url: str, folder: Path, *options: str) -> Generator[tuple[str, Process]]:
    """`tpo serve` in front of the model's server at `url`, on the first core: its URL, itself."""
    (folder / "rewards.py").write_text(REWARDS)
    cores = range(os.cpu_count() or 1)
    command = [
        sys.executable, "-c", "from tpo_graph.cli import main; main()", "serve", "--port", "0",
        "--database", f"sqlite:///{folder}/serve.db", "--model", "openai:instant",
        "--reward-model", f"python:{folder}/rewards.py#score", *options,
    ]  # fmt: skip
    environment = {**os.environ, "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "none"}
    log = folder / "serve.log"
    with log.open("w") as output, subprocess.Popen(
        command, env=environment, stderr=output
    ) as process:  # fmt: skip
        try:
            os.sched_setaffinity(process.pid, {cores[0]})
            os.sched_setaffinity(0, {cores[-1]})
            while "http://" not in log.read_text():
                if process.poll() is not None:
                    raise RuntimeError(log.read_text())
                time.sleep(0.05)
            address = log.read_text().partition("http://")[2].split()[0]
            yield f"http://{address}", Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)


async def stream(client: aiohttp.ClientSession, url: str, number: int) -> list[Moment]:
    """One streamed request: when the line of each step came, and the end."""
    body = {
        "model": "tpo",
        "stream": True,
        "messages": [{"role": "user", "content": question(number)}],
    }
    lines: list[tuple[float, bytes]] = []
    async with client.post(f"{url}/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        lines += [(time.monotonic(), line) async for line in response.content]
    moments: list[Moment] = []
    for at, line in lines:  # read when nobody's time is taken by it
        if line.startswith(b"data: {"):
            told = json.loads(line[6:])
            if "error" in told:
                raise RuntimeError(told["error"]["message"])
            choice = told["choices"][0]
            if choice["finish_reason"] or _is_of_a_step(choice["delta"].get("reasoning", "")):
                moments.append((number, at))
    return moments


def _is_of_a_step(line: str) -> bool:
    """Whether the line is the first one after a reply of the model's server."""
    return line.startswith(("comparison:", "to improve:")) or "scoring" in line or "revis" in line


async def through_the_server(url: str, process: Process, numbers: range) -> Measured:
    """All streams at once."""
    unlimited = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        connector=unlimited, timeout=aiohttp.ClientTimeout(None)
    ) as client:  # fmt: skip
        await stream(client, url, 10**6)  # what is made at the first request is made
        cpu, started = process.cpu, time.monotonic()
        found = await asyncio.gather(*(stream(client, url, number) for number in numbers))
        wall = time.monotonic() - started
    return Measured(list(chain(*found)), process.cpu - cpu, wall)


async def without_it(url: str, folder: Path, numbers: range) -> Measured:
    """The same runs by the library, in this process."""
    model: Any = ChatOpenAI(model="instant", base_url=url, api_key="none", disable_streaming=True)  # pyright: ignore

    def score(query: str, response: str) -> float:
        return float(len(response))

    async with open_store(f"sqlite:///{folder}/alone.db") as store:

        async def run(number: int) -> list[Moment]:
            moments: list[Moment] = []

            def note(event: Event) -> None:
                drafts = event["event"] == "samples" and event["iteration"] == 0
                revisions = event["event"] == "rewards" and event["iteration"] > 0
                if drafts or revisions or event["event"] in ("loss", "gradient"):
                    moments.append((number, time.monotonic()))

            await aoptimize(
                question(number), model=model, reward_model=score, database=store, on_event=note,
                depth=DEPTH, width=WIDTH,
            )  # fmt: skip
            return [*moments, (number, time.monotonic())]

        await run(10**6)
        cpu, started = time.process_time(), time.monotonic()
        found = await asyncio.gather(*map(run, numbers))
        wall = time.monotonic() - started
    return Measured(list(chain(*found)), time.process_time() - cpu, wall)


def latencies(measured: Measured, replies: list[Moment]) -> list[float]:
    """Milliseconds from each reply to the event that tells of it."""
    sent: dict[int, list[float]] = defaultdict(list)
    for number, at in replies:
        sent[number].append(at)
    told: dict[int, list[float]] = defaultdict(list)
    for number, at in measured.events:
        told[number].append(at)
    found: list[float] = []
    for number, times in told.items():
        before = [*sent[number], sent[number][-1]]  # the last reply: a revision, and the answer
        if len(times) != len(before) or len(before) != 2 + 3 * DEPTH:
            raise RuntimeError(f"question {number}: {len(times)} events, {len(before)} replies")
        found += [1000 * (at - reply) for at, reply in zip(times, before, strict=True)]
    return found


async def replies_of(url: str) -> list[Moment]:
    """All replies of the model's server so far."""
    async with aiohttp.ClientSession() as client, client.get(f"{url}/replies") as response:
        return [tuple(each) for each in json.loads(await response.read())]


class Side(NamedTuple):
    """What was measured of one side."""

    latencies: list[float]
    cpu: float
    wall: float

    def told(self, name: str) -> str:
        """One line."""
        half, most = (percentile(self.latencies, part) for part in (50, 99))
        cpu = 1000 * self.cpu / len(self.latencies)
        return f"{name:20}{half:9.1f} ms{most:9.1f} ms{cpu:13.2f} ms{self.wall:9.1f} s"


def percentile(values: Sequence[float], part: int) -> float:
    """The value below which `part` of a hundred lie."""
    return statistics.quantiles(values, n=100, method="inclusive")[part - 1]


def measured(streams: int, seconds: Sequence[float], server: bool) -> Side:
    """One side, with a model's server of its own."""
    numbers = range(streams)
    with tempfile.TemporaryDirectory() as made, instant_server(*seconds) as url:
        folder = Path(made)
        if server:
            options = ["--depth", str(DEPTH), "--width", str(WIDTH), "--max-runs", str(streams)]
            with serving(url, folder, *options) as (address, process):
                runs = asyncio.run(through_the_server(address, process, numbers))
        else:
            runs = asyncio.run(without_it(url, folder, numbers))
        return Side(latencies(runs, asyncio.run(replies_of(url))), runs.cpu, runs.wall)


def compared(streams: int, seconds: Sequence[float]) -> str:
    """Both sides at one pace, as a table."""
    sides = {
        "aoptimize": measured(streams, seconds, server=False),
        "tpo serve": measured(streams, seconds, server=True),
    }
    alone, served = (side.latencies for side in sides.values())
    own = [percentile(served, part) - percentile(alone, part) for part in (50, 99)]
    pace = "replies after {} to {} s".format(*seconds) if seconds else "replies at once"
    return "\n".join(
        [
            f"{streams} streams at once, D{DEPTH}-N{WIDTH}, {pace}: {len(served)} events",
            f"{'':20}{'p50':>12}{'p99':>12}{'CPU/event':>16}{'wall':>11}",
            *(side.told(name) for name, side in sides.items()),
            f"{'the server itself':20}{own[0]:9.1f} ms{own[1]:9.1f} ms",
        ]
    )


async def grow(url: str, process: Process, requests: int, in_flight: int = 32) -> None:
    """Print resident memory while requests of one iteration (D1-N2) come, half of them streams."""
    numbers, done = iter(range(requests)), 0
    print(f"{'requests':>10}{'memory':>12}")

    async def worker(client: aiohttp.ClientSession) -> None:
        nonlocal done
        for number in numbers:
            messages = [{"role": "user", "content": question(number)}]
            body = {"model": "tpo-d1n2", "stream": number % 2 == 0, "messages": messages}
            async with client.post(f"{url}/v1/chat/completions", json=body) as response:
                response.raise_for_status()
                await response.read()
            done += 1
            if done % (requests // 10) == 0:
                print(f"{done:10,}{process.memory:9.1f} MB", flush=True)

    async with aiohttp.ClientSession() as client:
        await asyncio.gather(*(worker(client) for _ in range(in_flight)))


def memory(requests: int) -> None:
    """Print how the server's memory develops."""
    with tempfile.TemporaryDirectory() as folder, instant_server() as url:
        print(f"memory of the server over {requests:,} requests")
        with serving(url, Path(folder)) as (address, process):
            asyncio.run(grow(address, process, requests))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=200, help="for the events; 0: skip them")
    parser.add_argument("--seconds", type=float, nargs=2, default=(4.0, 12.0))
    parser.add_argument("--requests", type=int, default=5000, help="for the memory; 0: skip it")
    given = parser.parse_args(arguments)
    for pace in ((), given.seconds) if given.streams else ():
        print(compared(given.streams, pace), flush=True)
    if given.requests:
        memory(given.requests)


if __name__ == "__main__":
    main()
