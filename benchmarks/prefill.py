"""Prompt tokens that a server has to read per D2-N5 query, by the form of the prompts.

The default set, whose calls are separate prompts; `turns_prompts`, the turns of one conversation;
and `nested_prompts`, the same words as the turns, which quotes the loss call whole in the later
calls, as TextGrad does. They run through `optimize_many` on the simulated engine, whose prefix
cache works on blocks of 16 tokens and never evicts: what is prefilled is what no earlier call had
at the same place. vLLM and SGLang keep what they generate in that cache too; a server that does not
is shown beside it. A token is four characters.

    python -m benchmarks.prefill [--queries 64]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.engine import MODELS, Engine, Totals
from benchmarks.simulated_model import Replies, RisingReward, SimulatedChatModel
from benchmarks.throughput import question
from benchmarks.virtual_time import run_in_virtual_time
from tpo_graph.batch.many import aoptimize_many
from tpo_graph.session.result import TPOResult

_HERE = Path(__file__).parent
SETS = {
    "default": "tpo",
    "turns": str(_HERE / "turns_prompts"),
    "nested": str(_HERE / "nested_prompts"),
}


async def read(prompts: str, queries: int, caches_replies: bool) -> Totals:
    """What the engine did for so many queries."""
    engine = Engine(MODELS["70b"], caches_replies=caches_replies)
    results = aoptimize_many(
        [question(number) for number in range(queries)],
        model=SimulatedChatModel(engine=engine, replies=Replies()),
        reward_model=RisingReward(),
        prompts=prompts,
        max_in_flight=8,
    )
    async for result in results:
        assert isinstance(result, TPOResult)
    return engine.totals


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=64)
    queries = parser.parse_args(arguments).queries
    print("tokens per query                        prompt  prefilled  cached")
    for kept in (True, False):
        prefilled: dict[str, float] = {}
        for name, prompts in SETS.items():
            totals = run_in_virtual_time(read(prompts, queries, kept))
            prefilled[name] = totals.prefilled / queries
            server = f"{name}, replies {'cached' if kept else 'not cached'}"
            print(
                f"{server:36} {totals.prompt / queries:9.0f} {prefilled[name]:10.0f}"
                f" {1 - totals.prefilled / totals.prompt:7.0%}"
            )
        for name in ("default", "turns"):
            print(f"{name} / nested, prefilled: {prefilled[name] / prefilled['nested']:.2f}")


if __name__ == "__main__":
    main()
