"""What batching and shared prefixes gain: the scorer against one row at a time, same model.

Random weights and random tokens, N=5 responses of about 300 tokens to conversations of 50, 500 and
2,000. Sides alternate in one process. The ratio is time one by one / time of the scorer; ideal is
the ratio of tokens when each prefix is computed once. On a CPU with one thread, time is CPU time,
which other work on the machine moves least; otherwise it is wall time.

    python -m benchmarks.scoring [--dtype float32 bfloat16] [--threads 1]
    python -m benchmarks.scoring --size 8b --device cuda --dtype bfloat16 --rounds 20
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

WIDTH = 5
SIZES: dict[str, dict[str, int]] = {
    "mid": {
        "vocab_size": 32_000,
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
    },
    "8b": {
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}


class Query(NamedTuple):
    """The responses to one conversation."""

    prefix: int
    """Tokens of the conversation."""
    rows: list[list[int]]


def queries(count: int, prefix: int, vocabulary: int, seed: int = 0) -> list[Query]:
    """Random tokens: conversations of one length, responses of 200 to 400 tokens."""
    draw = random.Random(f"{seed} {prefix}")

    def tokens(length: int) -> list[int]:
        return [draw.randrange(vocabulary) for _ in range(length)]

    made: list[Query] = []
    for _ in range(count):
        before = tokens(prefix)
        made.append(Query(prefix, [before + tokens(draw.randint(200, 400)) for _ in range(WIDTH)]))
    return made


class Sides:
    """The ways to score queries, on one set of weights."""

    def __init__(self, size: str, device: str, dtype: str, budget: int) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification, LlamaConfig

        from tpo_graph.local.batching import Scorer, packed_batch, padded_batch
        from tpo_graph.local.packed import PackedForward
        from tpo_graph.local.padded import PaddedForward

        config = LlamaConfig(**SIZES[size], max_position_embeddings=8192, num_labels=1)
        torch.manual_seed(0)
        with torch.device(device):
            self.model: Any = AutoModelForSequenceClassification.from_config(
                config, dtype=getattr(torch, dtype)
            ).eval()
        self.packed = Scorer("packed", PackedForward(self.model), packed_batch, budget)
        self.padded = Scorer("padded", PaddedForward(self.model), padded_batch, budget)
        self.packing: str = self.model.config._attn_implementation
        self.device = device
        alone = device == "cpu" and torch.get_num_threads() == 1
        self.clock = time.process_time if alone else time.perf_counter

    def one_by_one(self, asked: Sequence[Query]) -> list[float]:
        """As transformers' text-classification pipeline does it."""
        import torch

        scores: list[float] = []
        for row in (row for query in asked for row in query.rows):
            ids = torch.tensor([row], device=self.device)
            with torch.inference_mode():
                logits = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            scores.append(logits[0, 0].item())
        return scores

    def scorer(self, scorer: Any) -> Callable[[Sequence[Query]], list[float]]:
        """All queries put at once, as runs in flight do."""

        def score(asked: Sequence[Query]) -> list[float]:
            futures: list[Future[list[float]]] = []
            for query in asked:
                futures.append(Future())
                scorer.put(query.rows, query.prefix, futures[-1])
            return [score for future in futures for score in future.result()]

        return score

    def timed(self, name: str, asked: Sequence[Query]) -> tuple[float, list[float]]:
        """(seconds per query, scores) of one side."""
        # The three differ in attention alone, which is switched outside the clock.
        self.model.set_attn_implementation(self.packing if name == "packed" else "sdpa")
        sides = {
            "one by one": self.one_by_one,
            "padded": self.scorer(self.padded),
            "packed": self.scorer(self.packed),
        }
        start = self.clock()
        scores = sides[name](asked)
        return (self.clock() - start) / len(asked), scores


def compare(sides: Sides, prefix: int, rounds: int, in_flight: int, padded: bool) -> str:
    """One prefix length: best of the rounds of each side, and the ratios."""
    asked = queries(in_flight, prefix, sides.model.config.vocab_size)
    few = asked[:1]
    runs = {"one by one": ("one by one", few), "one query": ("packed", few)}
    if in_flight > 1:
        runs[f"{in_flight} queries"] = ("packed", asked)
    if padded:
        runs["padded"] = ("padded", few)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    scores: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, (side, given) in runs.items():
            spent, scores[name] = sides.timed(side, given)
            seconds[name].append(spent)
    best = {name: min(values) for name, values in seconds.items()}
    alone = sum(len(row) for row in few[0].rows)
    shared = alone - (WIDTH - 1) * prefix
    apart = max(
        abs(a - b)
        for name in runs
        for a, b in zip(scores["one by one"], scores[name], strict=False)
    )
    ratios = "   ".join(
        f"{name} {best['one by one'] / best[name]:.2f}" for name in runs if name != "one by one"
    )
    return (
        f"prefix {prefix:5}: one by one {1000 * best['one by one']:7.0f} ms per query "
        f"({alone / best['one by one']:6.0f} tokens/s)   ratio: {ratios}   "
        f"(ideal {alone / shared:.2f})   scores within {apart:.0e}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="mid")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--prefix", nargs="+", type=int, default=[50, 500, 2000])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--in-flight", type=int, default=2, help="queries put at once")
    parser.add_argument("--budget", type=int, default=8192, help="tokens of a batch")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--padded", action="store_true", help="also padded batches")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    cuda = options.device.startswith("cuda")
    where = torch.cuda.get_device_name(options.device) if cuda else "CPU"
    for dtype in options.dtype:
        sides = Sides(options.size, options.device, dtype, options.budget)
        sides.timed("one by one", queries(1, 50, 1000))
        sides.timed("packed", queries(1, 50, 1000))
        print(f"{options.size} classifier, {dtype}, {where}, N={WIDTH}", flush=True)
        for prefix in options.prefix:
            if cuda:
                torch.cuda.reset_peak_memory_stats(options.device)
            line = compare(sides, prefix, options.rounds, options.in_flight, options.padded)
            peak = torch.cuda.max_memory_allocated(options.device) / 2**30 if cuda else 0.0
            print(line + (f"   peak {peak:.1f} GiB" if cuda else ""), flush=True)
        del sides


if __name__ == "__main__":
    main()
