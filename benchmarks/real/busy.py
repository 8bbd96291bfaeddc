"""Whether a batch keeps a real server as busy as a bare client does at the best number set by hand.

    python -m benchmarks.real busy --model NAME --base-url URL --in-flight 4 8 16

Each side asks the same number of questions, `--width` replies to each in one request, and is
measured in completion tokens per second from the first request to the last reply. The bare client
is OpenAI's own. `tpo` is `aoptimize_many` at depth 0, which finds its number by itself and begins
anew each time. Sides alternate; no side asks a question that another has asked, as the server
would have its prompt already.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import count
from statistics import median

from openai import AsyncOpenAI

from tpo_graph import TPOContext, aoptimize_many
from tpo_graph.testing import prefer_longer

_TOPICS = ("bread", "rain", "glass", "sleep", "salt", "paper", "iron", "music", "honey", "chess")
_SAMPLING = TPOContext()
"""What a run draws with by default: a server without a GPU spends half its time on `top_p`."""
Side = Callable[[list[str]], Awaitable[int]]


def questions(numbers: Iterator[int], rows: int) -> list[str]:
    """Questions that nobody has asked yet."""
    return [
        f"({n}) Explain {_TOPICS[n % len(_TOPICS)]} to a child, in three paragraphs."
        for _, n in zip(range(rows), numbers, strict=False)
    ]


async def bare(
    client: AsyncOpenAI, model: str, width: int, max_tokens: int, in_flight: int, asked: list[str]
) -> int:
    """Completion tokens of all replies."""
    limit = asyncio.Semaphore(in_flight)

    async def one(question: str) -> int:
        async with limit:
            reply = await client.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": question}],
                n=width,
                max_tokens=max_tokens,
                temperature=_SAMPLING.temperature,
                top_p=_SAMPLING.top_p,
            )
        return reply.usage.completion_tokens if reply.usage else 0

    return sum(await asyncio.gather(*map(one, asked)))


async def tpo(model: str, width: int, max_tokens: int, asked: list[str]) -> int:
    """Completion tokens of all replies."""
    tokens = 0
    answered = aoptimize_many(
        asked, model=model, reward_model=prefer_longer, depth=0, width=width, max_tokens=max_tokens
    )
    async for result in answered:
        if isinstance(result, Exception):
            raise result
        tokens += sum(stage["completion_tokens"] for stage in result.usage.values())
    return tokens


async def measure(
    model: str,
    in_flight: Sequence[int],
    *,
    rows: int,
    width: int,
    max_tokens: int,
    rounds: int,
) -> dict[str, float]:
    """Median completion tokens per second of each side; `OPENAI_BASE_URL` says where to ask."""
    async with AsyncOpenAI(timeout=3600, max_retries=0) as client:
        sides: dict[str, Side] = {
            f"bare, {number} in flight": partial(bare, client, model, width, max_tokens, number)
            for number in in_flight
        }
        sides["tpo"] = partial(tpo, f"openai:{model}", width, max_tokens)
        numbers = count(1)
        await bare(client, model, width, 8, 1, questions(numbers, 1))  # the server may be cold
        found: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(rounds):
            for name, side in sides.items():
                begun = time.perf_counter()
                tokens = await side(questions(numbers, rows))
                speed = tokens / (time.perf_counter() - begun)
                found[name].append(speed)
                print(f"{name:20} {tokens:6} tokens  {speed:7.1f} tokens/s", flush=True)
    return {name: median(speeds) for name, speeds in found.items()}


def report(speeds: dict[str, float]) -> str:
    """One line: the batch against the best number set by hand."""
    best = max((name for name in speeds if name != "tpo"), key=speeds.__getitem__)
    return f"tpo: {speeds['tpo'] / speeds[best]:.2f} of the best ({best})"
