"""What orchestration costs: D2-N5 queries per CPU second against a server that answers at once.

Two sides alternate in one process: the same seven requests of a query in a bare asyncio loop with
the openai client, and `create_tpo_graph` with ChatOpenAI. The ratio is what the graph leaves of
the bare loop's speed; absolute numbers depend on the machine.

    python -m benchmarks.orchestration [--queries 100] [--rounds 7] [--in-flight 32]
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

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


async def compare(url: str, queries: int, rounds: int, in_flight: int) -> str:
    """Both sides in alternating rounds; a table of medians."""
    client = openai.AsyncOpenAI(base_url=url, api_key="none")
    model = ChatOpenAI(model="instant", base_url=url, api_key="none")  # pyright: ignore
    sides = {"bare": bare_query(client), "graph": graph_query(model)}
    for query in sides.values():
        await measure(query, 2 * in_flight, in_flight)
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, query in sides.items():
            measured[name].append(await measure(query, queries, in_flight))
    await client.close()
    lines = [f"D{DEPTH}-N{WIDTH}, {in_flight} in flight, {rounds} rounds of {queries} queries"]
    medians: dict[str, tuple[float, float]] = {}
    for name, values in measured.items():
        cpu, wall = (statistics.median(column) for column in zip(*values, strict=True))
        medians[name] = cpu, wall
        lines.append(
            f"{name:6} {1 / cpu:6.1f} queries per CPU second   {1000 * cpu:5.1f} ms CPU"
            f"   {1 / wall:6.1f} queries per second"
        )
    ratios = [b[0] / g[0] for b, g in zip(measured["bare"], measured["graph"], strict=True)]
    cpu = medians["bare"][0] / medians["graph"][0]
    wall = medians["bare"][1] / medians["graph"][1]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f} over rounds"
    lines.append(f"graph / bare: {cpu:.2f} of its speed per CPU second ({spread}), {wall:.2f} wall")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--in-flight", type=int, default=32)
    options = parser.parse_args(arguments)
    with instant_server() as url:
        print(asyncio.run(compare(url, options.queries, options.rounds, options.in_flight)))


if __name__ == "__main__":
    main()
