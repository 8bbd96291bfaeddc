"""Tokens saved by each stop rule on the offline world, and what it costs in gold.

Full runs (D5-N5) are made once; each rule is then asked after every iteration of them, by the
graph's own `stop_reason`, with what it would have known there. A stopped run is the beginning of
the full one, so both sides share every reply, and differences are paired by query. Fixed depths
stand beside the rules: a rule is worth having if it keeps more gold than a lower depth for the
same tokens.

    python -m benchmarks.stop_rules [--queries 60] [--depth 5] [--reward reward-warm] [--seed 1]
"""

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from tpo_graph import Candidate, TPOContext
from tpo_graph.candidates import IterationSummary, best, worst
from tpo_graph.stopping import Pair, stop_reason
from tpo_graph.usage import Ledger, no_usage


def stops_at(
    history: Sequence[IterationSummary],
    candidates: Sequence[Candidate],
    settings: Mapping[str, Any],
) -> int:
    """The iteration after which a run with these settings ends, of a run that went further.

    Args:
        history: the whole run's rows, with the tokens of each iteration.
        candidates: all of the run's.
        settings: fields of `TPOContext`; `max_seconds` and `max_cost` cannot be replayed.
    """
    context = TPOContext(**{"depth": len(history) - 1, **settings})
    before: Pair = (None, None)
    for step in range(len(history)):
        seen = history[: step + 1]
        pool = [c for c in candidates if c["iteration"] <= step]
        pair: Pair = (best(pool), worst(pool))
        spent: Ledger = {"sample": {**no_usage(), "prompt_tokens": sum(r["tokens"] for r in seen)}}
        if stop_reason(seen, spent, context, pair, before) is not None:
            return step
        before = pair
    raise AssertionError("the depth stops every run")


async def measure(options: argparse.Namespace) -> str:
    """The table."""
    import numpy as np

    from benchmarks.offline_world import committed, held_out_queries, interval, play, table

    queries = held_out_queries(options.queries, options.seed)
    reward_model = committed(options.reward)
    runs = await play(queries, reward_model, options.depth, options.width, options.seed)
    gold = runs.gold(options.reward.removeprefix("reward-").replace("weak", "warm"))
    proxy = runs.proxy()
    histories: list[list[IterationSummary]] = [state["history"] for state in runs.states]
    # A run that ended early by itself (no usable update) stays where it is.
    tokens = np.array(
        [
            np.cumsum([row["tokens"] for row in rows] + [0] * (options.depth + 1 - len(rows)))
            for rows in histories
        ]
    )
    rules: dict[str, dict[str, Any]] = {f"depth={d}": {"depth": d} for d in range(options.depth)}
    for quantile in (0.5, 0.75, 0.9):
        target = round(float(np.quantile(proxy[:, -1], quantile)), 1)
        rules[f"target_reward={target}"] = {"target_reward": target}
    rules |= {
        "patience=1": {"patience": 1},
        "patience=1 min_gain=0.5": {"patience": 1, "min_gain": 0.5},
        "patience=1 min_gain=1": {"patience": 1, "min_gain": 1.0},
        "patience=2": {"patience": 2},
        "stop_on_same_pair": {"stop_on_same_pair": True},
    }
    for share in (0.5, 0.8):
        budget = int(share * tokens[:, -1].mean())
        rules[f"max_total_tokens={budget}"] = {"max_total_tokens": budget}
    full = tokens[:, -1].mean()
    rows = [["rule", "iterations", "tokens saved", "gold", "gold minus full depth", "proxy"]]
    rows.append([f"full depth={options.depth}", f"{options.depth}", "", interval(gold[:, -1])])
    rows[-1] += ["", f"{proxy[:, -1].mean():.2f}"]
    every = np.arange(len(queries))
    for name, settings in rules.items():
        ends = [
            stops_at(rows_of, run, settings)
            for rows_of, run in zip(histories, runs.candidates, strict=True)
        ]
        saved = 1 - tokens[every, ends].mean() / full
        rows.append(
            [
                name,
                f"{np.mean(ends):.1f}",
                f"{saved:.0%}",
                interval(gold[every, ends]),
                interval(gold[every, ends] - gold[:, -1]),
                f"{proxy[every, ends].mean():.2f}",
            ]
        )
    head = (
        f"D{options.depth}-N{options.width}, {options.reward}, {options.queries} held-out queries, "
        f"seed {options.seed}; {full:.0f} tokens per query at full depth"
    )
    return f"{head}\n{table(rows)}"


def main(arguments: Sequence[str] | None = None) -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=60)
    parser.add_argument("--depth", type=int, default=5)
    parser.add_argument("--width", type=int, default=5)
    parser.add_argument("--reward", default="reward-warm", help="a folder of the offline example")
    parser.add_argument("--seed", type=int, default=1, help="of queries and sampling")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print(asyncio.run(measure(options)))


if __name__ == "__main__":
    main()
