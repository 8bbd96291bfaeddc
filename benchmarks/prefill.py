"""Prompt tokens that a server has to read per D2-N5 query: the default prompts, and nested ones.

Both sets say the same; `nested_prompts` quotes the loss call whole in the later calls, as TextGrad
does. They run through `optimize_many` on the simulated engine, whose prefix cache works on blocks
of 16 tokens and never evicts: what is prefilled is what no earlier call had at the same place.
A token is four characters. The least is what must be read once whatever the form: per iteration the
conversation, both answers, loss and gradient, without a word of instruction.

    python -m benchmarks.prefill [--queries 64]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.engine import CHARACTERS_PER_TOKEN, MODELS, Engine, Totals
from benchmarks.simulated_model import Replies, RisingReward, SimulatedChatModel
from benchmarks.throughput import question
from benchmarks.virtual_time import run_in_virtual_time
from tpo_graph.batch.many import aoptimize_many
from tpo_graph.result import TPOResult

NESTED = str(Path(__file__).parent / "nested_prompts")


async def read(prompts: str, queries: int) -> tuple[Totals, float]:
    """(what the engine did, the least it had to read) for so many queries."""
    engine = Engine(MODELS["70b"])
    results = aoptimize_many(
        [question(number) for number in range(queries)],
        model=SimulatedChatModel(engine=engine, replies=Replies()),
        reward_model=RisingReward(),
        prompts=prompts,
        max_in_flight=8,
    )
    least = 0
    async for result in results:
        assert isinstance(result, TPOResult)
        least += _least(result)
    return engine.totals, least / CHARACTERS_PER_TOKEN


def _least(result: TPOResult) -> int:
    """Characters that are new to the server, if each text were read once per place it can share."""
    asked = len(question(1))
    known: set[str] = set()
    total = asked
    for step in result.steps[:-1]:
        chosen, rejected = step["chosen"]["response"], step["rejected"]["response"]
        # A prompt begins with the conversation and the rejected answer: read again if that changed.
        total += 0 if rejected in known else len(rejected) + (0 if known else asked)
        known.add(rejected)
        total += len(chosen) + len(step["loss"]) + len(step["gradient"])
    return total


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=64)
    queries = parser.parse_args(arguments).queries
    prefilled: dict[str, float] = {}
    print("tokens per query   prompt  prefilled  cached   least")
    for name, prompts in (("default", "tpo"), ("nested", NESTED)):
        totals, least = run_in_virtual_time(read(prompts, queries))
        prefilled[name] = totals.prefilled / queries
        print(
            f"{name:16} {totals.prompt / queries:8.0f} {prefilled[name]:10.0f}"
            f" {1 - totals.prefilled / totals.prompt:7.0%} {least / queries:7.0f}"
        )
    print(f"default / nested, prefilled: {prefilled['default'] / prefilled['nested']:.2f}")


if __name__ == "__main__":
    main()
