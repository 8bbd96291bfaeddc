"""How close many D2-N5 queries come to the work bound of a simulated server, and at what latency.

`optimize_many` itself runs, in virtual time, against `engine.py`; the limit on runs in flight that
it finds is printed beside fixed ones. The work bound is the least time in which the server could
produce the same tokens. A query's latency is counted from its first request to its last reply, and
given as a multiple of that of a query that is alone. HTTP is left out, and so is the time that this
process needs itself: `benchmarks.orchestration` measures that.

    python -m benchmarks.throughput [--models 70b 8b] [--queries 1000] [--seeds 1]

`--http 20` runs the found limit once more in real time, twenty times as fast, through ChatOpenAI
against `simulated_server`: with everything that virtual time leaves out.
"""

import argparse
import asyncio
import re
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI

from benchmarks.engine import MODELS, Engine, Latency
from benchmarks.simulated_model import InstantReward, Replies, SimulatedChatModel, prompt_text
from benchmarks.virtual_time import run_in_virtual_time
from tpo_graph.batch.many import aoptimize_many

_NUMBER = re.compile(r"Question (\d+):")


class TimedModel(SimulatedChatModel):
    """Notes when each query's first request comes and when its last reply goes."""

    times: Any

    async def _agenerate(
        self, messages: list[BaseMessage], *arguments: Any, **options: Any
    ) -> ChatResult:
        found = _NUMBER.search(prompt_text(messages))
        assert found is not None
        loop, number = asyncio.get_running_loop(), int(found[1])
        began = self.times[number][0] if number in self.times else loop.time()
        result = await super()._agenerate(messages, *arguments, **options)
        self.times[number] = began, loop.time()
        return result


@dataclass
class Measured:
    """One batch."""

    bound: float
    """Wall time over the work bound."""
    wall: float
    latency: float
    """Median over queries, in seconds."""
    slowest_call: float
    """Seconds of the slowest model call."""


def question(number: int) -> str:
    """A query of about 130 tokens."""
    return f"Question {number}: " + "explain how this works and what to watch out for, " * 10


async def batch(latency: Latency, queries: int, in_flight: int | None, seed: int) -> Measured:
    """Answer so many queries, with so many at once, or as many as the library thinks good."""
    engine, times = Engine(latency), {}
    model = TimedModel(engine=engine, replies=Replies(seed), times=times)
    results = aoptimize_many(
        [question(number) for number in range(queries)],
        model=model,
        reward_model=InstantReward(),
        max_in_flight=in_flight,
    )
    began = asyncio.get_running_loop().time()
    async for result in results:
        if isinstance(result, Exception):
            raise result
    wall = asyncio.get_running_loop().time() - began
    return Measured(
        bound=wall / engine.totals.seconds(latency),
        wall=wall,
        latency=statistics.median(end - start for start, end in times.values()),
        slowest_call=engine.totals.slowest,
    )


async def over_http(name: str, queries: int, speed: float) -> float:
    """Wall time over the work bound of the server in its own process."""
    command = [sys.executable, "-m", "benchmarks.simulated_server"]
    command += ["--model", name, "--speed", str(speed)]
    server = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    try:
        url = (await server.stdout.readline()).decode().strip()
        model = ChatOpenAI(model="simulated", base_url=url, api_key="none")  # pyright: ignore
        asked = [question(number) for number in range(queries)]
        began = time.perf_counter()
        async for result in aoptimize_many(asked, model=model, reward_model=InstantReward()):
            if isinstance(result, Exception):
                raise result
        wall = time.perf_counter() - began
        async with httpx2.AsyncClient() as client:
            totals = (await client.get(url.removesuffix("/v1") + "/totals")).json()
        return wall / totals["bound"]
    finally:
        server.kill()
        await server.wait()


def measure(name: str, queries: int, in_flight: int | None, seed: int) -> Measured:
    """`batch` in virtual time."""
    return run_in_virtual_time(batch(MODELS[name], queries, in_flight, seed))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--queries", nargs="+", type=int, default=[256, 1000])
    parser.add_argument("--limits", nargs="*", type=int, default=[32, 0], help="0: all")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--http", type=float, metavar="SPEED", help="in real time, so much faster")
    options = parser.parse_args(arguments)
    if options.http:
        for name in options.models:
            for queries in options.queries:
                bound = asyncio.run(over_http(name, queries, options.http))
                print(f"{name} {queries} queries over HTTP: {bound:.3f} of the bound", flush=True)
        return
    print("model queries in flight  wall/bound  latency/lone  slowest call   wall")
    for name in options.models:
        lone = measure(name, 20, 1, 0).latency
        for queries in options.queries:
            for limit in [None, *options.limits]:
                for seed in range(options.seeds if limit is None else 1):
                    limited = queries if limit == 0 else limit
                    m = measure(name, queries, limited, seed)
                    shown = "found" if limit is None else limited
                    print(
                        f"{name:5} {queries:7} {shown:>9} {m.bound:11.3f} {m.latency / lone:13.2f}"
                        f" {m.slowest_call:11.0f} s {m.wall:5.0f} s",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
