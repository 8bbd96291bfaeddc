"""The study: does TPO follow the reward model, under two opposed tastes, on held-out queries?

    python examples/offline/study.py        # prints the tables, and writes RESULTS.md

Arms start from the same first five answers. Proxy is the reward model's own score of the best reply
so far (chosen by that reward model); gold is the world's preference of that same reply.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import numpy as np
import torch
from arms import Runs, Setting, best_of_15, plain, sampling, swapped
from taste import GOLD
from world import Query, sample_query

HERE = Path(__file__).parent
ARMS: dict[str, Callable[[Setting, list[Query]], Awaitable[Runs]]] = {
    "TPO D2-N5": lambda setting, queries: plain(setting, queries),
    "revision D2-N5": lambda setting, queries: plain(setting, queries, prompts="prompts-revision"),
    "gradients swapped": swapped,
    "best-of-15": best_of_15,
}
TPO = "TPO D2-N5"
RESAMPLES = 2000
INTRODUCTION = f"""# Results of the offline study

Command: `python examples/offline/study.py --queries {{queries}} --seed {{seed}}`; the seed is that
of the queries and of all sampling. The models are those in `models/`: one training run, seed 0.

Cells are means over held-out queries with bootstrap 95% intervals ({RESAMPLES} resamples of the
queries). A row follows the best reply so far, as its reward model sees it: *proxy* is that reward,
*gold* what the world's own taste gives the same reply. All arms start from the same five
answers; TPO, revision, swapped and best-of-15 draw 15 answers each. *Gradients swapped* is TPO, but
every update gets the gradient of another query of the same step.
"""


def held_out_queries(count: int, seed: int) -> list[Query]:
    """Different queries from the combinations that no training example has."""
    random = Random(seed)
    queries: dict[str, Query] = {}
    while len(queries) < count:
        query = sample_query(random, held_out=True)
        queries[query.text] = query
    return list(queries.values())


def trajectory(runs: Runs, queries: list[Query], gold: str) -> tuple[np.ndarray, np.ndarray]:
    """Proxy and gold of the best reply so far, each of shape (queries, iterations)."""
    last = max(candidate["iteration"] for run in runs for candidate in run)
    proxy, scores = [], []
    for query, run in zip(queries, runs, strict=True):
        steps = range(last + 1)
        pools = [[c for c in run if c["iteration"] <= step] for step in steps]
        best = [max(pool, key=lambda candidate: candidate["reward"]) for pool in pools]
        proxy.append([candidate["reward"] for candidate in best])
        scores.append([GOLD[gold].score(query, candidate["response"]) for candidate in best])
    return np.array(proxy), np.array(scores)


def interval(values: np.ndarray) -> str:
    """Mean over queries with its bootstrap 95% interval."""
    draws = np.random.default_rng(0).choice(values, (RESAMPLES, len(values))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"


def table(rows: list[list[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = rows
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


async def run_taste(
    taste: str, setting: Setting, queries: list[Query], report: Callable[[str], None]
) -> dict[str, Runs]:
    """All arms under one reward model: their tables go to `report`, their candidates come back."""
    runs: dict[str, Runs] = {}
    rows = [["arm", "quantity", "first five", "step 1", "step 2"]]
    ends: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name, arm in ARMS.items():
        began = time.monotonic()
        runs[name] = await arm(setting, queries)
        proxy, gold = trajectory(runs[name], queries, taste)
        ends[name] = proxy[:, -1], gold[:, -1]
        for quantity, values in (("proxy", proxy), ("gold", gold)):
            cells = [interval(values[:, step]) for step in range(values.shape[1])]
            if name == "best-of-15":
                cells = ["", "", *cells]
            rows.append([name, quantity, *cells])
        print(f"{taste}: {name} took {time.monotonic() - began:.0f} s", flush=True)
    same_start(runs)
    report(f"## Taste `{taste}`, reward model `{setting.reward_model}`\n")
    report(table(rows) + "\n")
    gains = [["gold, paired by query", "difference"]]
    proxy, gold = trajectory(runs[TPO], queries, taste)
    for step in (1, 2):
        gain = interval(gold[:, step] - gold[:, step - 1])
        gains.append([f"TPO step {step} minus the step before", gain])
    for name in [name for name in ARMS if name != TPO]:
        lead = interval(ends[TPO][1] - ends[name][1])
        gains.append([f"TPO minus {name}", lead])
    lead = interval(ends["gradients swapped"][1] - ends["best-of-15"][1])
    gains.append(["gradients swapped minus best-of-15", lead])
    report(table(gains) + "\n")
    return runs


def same_start(runs: dict[str, Runs]) -> None:
    """Check that all arms have the same first five answers."""
    starts = [
        [[c["response"] for c in run if c["iteration"] == 0][:5] for run in arm]
        for arm in runs.values()
    ]
    if any(start != starts[0] for start in starts):
        raise SystemExit("the arms did not start from the same answers")


def cross_table(results: dict[str, dict[str, Runs]], queries: list[Query]) -> str:
    """Gold of each taste for the final TPO answer under each reward model."""
    rows = [["final answer of TPO under", *(f"gold `{taste}`" for taste in GOLD)]]
    for trained, runs in results.items():
        cells = [interval(trajectory(runs[TPO], queries, gold)[1][:, -1]) for gold in GOLD]
        rows.append([f"`reward-{trained}`", *cells])
    return table(rows)


async def study(options: argparse.Namespace, report: Callable[[str], None]) -> None:
    """Run every arm for every taste and report the tables."""
    queries = held_out_queries(options.queries, options.seed)
    results: dict[str, dict[str, Runs]] = {}
    for taste in GOLD:
        setting = Setting(options.models.resolve(), f"reward-{taste}", sampling(), options.seed)
        results[taste] = await run_taste(taste, setting, queries, report)
    report("## Cross table\n")
    report(cross_table(results, queries) + "\n")


def main() -> None:
    """Parse the options, run, print and write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", type=Path, default=HERE / "models")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "RESULTS.md", help="report")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began = time.monotonic()
    lines = [INTRODUCTION.format(queries=options.queries, seed=options.seed)]

    def report(text: str) -> None:
        print(text, flush=True)
        lines.append(text)

    asyncio.run(study(options, report))
    minutes = (time.monotonic() - began) / 60
    report(f"Took {minutes:.0f} minutes on {options.threads} threads.")
    options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
