"""What orchestration costs: D2-N5 queries per CPU second against a server that answers at once.

Two sides alternate in one process: the same seven requests of a query in a bare asyncio loop with
the openai client, and `create_tpo_graph` with ChatOpenAI. The ratio is what the graph leaves of
the bare loop's speed; absolute numbers depend on the machine.

    python -m benchmarks.orchestration [--queries 100] [--rounds 7] [--in-flight 32] [--ablate]
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest.mock import patch

import openai
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

from benchmarks.instant_server import instant_server
from tpo_graph import create_tpo_graph
from tpo_graph.conversation import Turn
from tpo_graph.prompts import load_prompts

DEPTH, WIDTH = 2, 5
Query = Callable[[int], Awaitable[None]]


class LengthReward:
    """Costs nothing, like the reward of the bare loop."""

    name = "length"

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        return [float(len(response)) for response in responses]


def question(number: int) -> str:
    """A query of about a hundred words."""
    return f"Question {number}: " + "explain how this works and what to watch out for, " * 10


def bare_query(client: openai.AsyncOpenAI) -> Query:
    """The algorithm as a script would write it: no graph, no state, no records."""
    prompts = load_prompts("tpo")

    async def call(messages: list[dict[str, str]], n: int, max_tokens: int) -> list[str]:
        given: Any = messages
        completion = await client.chat.completions.create(
            model="instant",
            messages=given,
            n=n,
            temperature=0.7,
            top_p=0.95,
            max_completion_tokens=max_tokens,
        )
        return [choice.message.content or "" for choice in completion.choices]

    async def ask(prompt: Any, values: dict[str, str], n: int) -> list[str]:
        filled = prompt.render(values)
        messages = [
            {"role": "system", "content": filled.system},
            {"role": "user", "content": filled.user},
        ]
        return await call(messages, n, 2048)

    async def query(number: int) -> None:
        text = question(number)
        candidates = await call([{"role": "user", "content": text}], WIDTH, 2048)
        for _ in range(DEPTH):
            values = {
                "conversation": text,
                "chosen": max(candidates, key=len),
                "rejected": min(candidates, key=len),
                "criteria": "",
                "reasons": "",
            }
            values["loss"] = (await ask(prompts.loss, values, 1))[0]
            values["gradient"] = (await ask(prompts.gradient, values, 1))[0]
            for reply in await ask(prompts.update, values, WIDTH):
                inner = reply.split("<improved_answer>", 1)[1]
                candidates.append(inner.rsplit("</improved_answer>", 1)[0])

    return query


def graph_query(model: ChatOpenAI) -> Query:
    """The same through the graph, as a caller runs it."""
    graph = create_tpo_graph(model, LengthReward())
    context = {"depth": DEPTH, "width": WIDTH}

    async def query(number: int) -> None:
        messages = [HumanMessage(question(number))]
        await graph.ainvoke({"messages": messages}, context=context)  # pyright: ignore

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


@dataclass
class Side:
    """One way to answer queries, and what is replaced while it does."""

    query: Query
    patched: Callable[[], AbstractContextManager[object]] = nullcontext
    rounds: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    async def run(self, queries: int, in_flight: int) -> tuple[float, float]:
        with self.patched():
            return await measure(self.query, queries, in_flight)


def ablations(url: str, pooled: Any) -> dict[str, Side]:
    """The graph without each of the two things that make its client fast, and without both."""
    typed = partial(patch, "tpo_graph.models.completions.Completions", lambda c: c.chat.completions)
    return {
        "without aiohttp": Side(graph_query(chat(url, http_async_client=pooled))),
        "without plain JSON": Side(graph_query(chat(url)), typed),
        "without both": Side(graph_query(chat(url, http_async_client=pooled)), typed),
    }


def chat(url: str, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(model="instant", base_url=url, api_key="none", **options)  # pyright: ignore


async def compare(url: str, queries: int, rounds: int, in_flight: int, ablate: bool) -> str:
    """All sides in alternating rounds; a table of medians, the first side's speed being 1."""
    async with (
        openai.AsyncOpenAI(base_url=url, api_key="none") as client,
        openai.DefaultAsyncHttpxClient() as pooled,
    ):
        sides = {"bare loop": Side(bare_query(client)), "graph": Side(graph_query(chat(url)))}
        if ablate:
            sides |= ablations(url, pooled)
        for side in sides.values():
            await side.run(2 * in_flight, in_flight)
        for _ in range(rounds):
            for side in sides.values():
                side.rounds.append(await side.run(queries, in_flight))
    lines = [
        f"D{DEPTH}-N{WIDTH}, {in_flight} in flight, {rounds} rounds of {queries} queries",
        f"{'':20}{'CPU/query':>12}{'q/CPU s':>10}{'q/s':>8}{'speed':>8}"
        f"{'per round':>14}{'wall':>7}",
    ]
    bare = sides["bare loop"].rounds
    base = _medians(bare)
    for name, side in sides.items():
        cpu, wall = _medians(side.rounds)
        ratios = [b[0] / s[0] for b, s in zip(bare, side.rounds, strict=True)]
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        lines.append(
            f"{name:20}{1000 * cpu:9.1f} ms{1 / cpu:10.1f}{1 / wall:8.1f}{base[0] / cpu:8.2f}"
            f"{spread:>14}{base[1] / wall:7.2f}"
        )
    return "\n".join(lines)


def _medians(rounds: list[tuple[float, float]]) -> tuple[float, float]:
    return statistics.median(r[0] for r in rounds), statistics.median(r[1] for r in rounds)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--ablate", action="store_true", help="what makes the client fast")
    given = parser.parse_args(arguments)
    with instant_server() as url:
        print(asyncio.run(compare(url, given.queries, given.rounds, given.in_flight, given.ablate)))


if __name__ == "__main__":
    main()
