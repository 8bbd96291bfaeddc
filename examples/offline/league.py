"""The league: TPO and the methods after it, at equal tokens, where the truth is known.

    python examples/offline/league.py --store league.jsonl     # run it again to resume

Every method answers the same held-out queries with the same policy and reward model, and is judged
by gold, which no method sees. Results are kept in the store arm by arm.
"""

import argparse
import asyncio
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from arms import HERE, WIDTH, sampling
from batched import engine
from methods import METHODS, TPO, Method
from ruled import ChatRuled, NoisyJudge
from study import held_out_queries
from taste import GOLD
from world import Query

from tpo_graph import create_tpo_graph
from tpo_graph.cache import MemoryCache
from tpo_graph.candidates import best
from tpo_graph.costs import paper_flops
from tpo_graph.evaluation.statistics import estimate, holm, p_value, prompts_needed
from tpo_graph.rewards import load_reward_model
from tpo_graph.strategies import Knockout
from tpo_graph.usage import total_tokens

POOL = 80
"""Samples per query, of which best-of-N takes the first N."""
Results = dict[tuple[str, str], list[dict[str, Any]]]
"""By taste and method, a record per query."""


class Bench:
    """What all methods share."""

    def __init__(self, options: argparse.Namespace, first: int) -> None:
        self.sampling = sampling()
        self.queries = held_out_queries(options.queries, options.seed)[
            first : first + options.chunk
        ]
        self.by_text = {query.text: query for query in self.queries}
        self.seed: int = options.seed
        self.policy = str(options.models.resolve() / "policy")
        self.models: Path = options.models.resolve()

    async def run(
        self, taste: str, method: Method, width: int = WIDTH, seed: int | None = None
    ) -> list[dict[str, Any]]:
        """One method over all queries: per query what each iteration cost and had as its best."""
        gold = GOLD[taste].score
        judge = NoisyJudge(gold, self.by_text, self.policy)
        settings, strategies = dict(method.settings), []
        if method.knockout:
            strategies.append(Knockout(4, judge, name="noisy-knockout"))
            settings["pick"] = "noisy-knockout"
        cache = MemoryCache(max_runs=100_000)
        graph = create_tpo_graph(
            ChatRuled(path=self.policy, queries=self.by_text),
            load_reward_model(f"local:{self.models / f'reward-{taste}'}"),
            prompts=str(HERE / method.prompts),
            cache=cache,
            strategies=strategies,
        )
        context: Any = {
            **self.sampling,
            **settings,
            "width": width,
            "depth": method.depth,
            "seed": self.seed if seed is None else seed,
        }

        async def one(number: int, query: Query) -> dict[str, Any]:
            config: Any = {"configurable": {"tpo_run_id": str(number)}, "recursion_limit": 200}
            given: Any = {"messages": [("user", query.text)]}
            state = await graph.ainvoke(given, config, context=context)
            found = await cache.candidates(str(number))
            steps: list[dict[str, float]] = []
            for row in state["history"]:
                top = best(c for c in found if c["iteration"] <= row["iteration"])
                mine = gold(query, top["response"])
                steps.append({"tokens": row["tokens"], "reward": top["reward"], "gold": mine})
            answer = state.get("answer")
            if answer is not None:
                steps[-1] |= {"reward": answer["reward"], "gold": gold(query, answer["response"])}
            steps[-1]["tokens"] += total_tokens(state["usage"]) - sum(s["tokens"] for s in steps)
            record: dict[str, Any] = {"query": number, "steps": steps}
            if width != WIDTH:
                record["pool"] = [[c["reward"], gold(query, c["response"])] for c in found]
                record["prompt"] = state["usage"]["sample"]["prompt_tokens"]
            return record

        rows = await asyncio.gather(*(one(i, query) for i, query in enumerate(self.queries)))
        if method.knockout:
            print(f"the judge of {taste} was right in {judge.right} of {judge.asked} comparisons")
            rows[0]["judge"] = [judge.right, judge.asked]
        return list(rows)


def play(options: argparse.Namespace, first: int) -> None:
    """Run what is not in the store yet of the chunk of queries from the first on."""
    engine.cache_clear()  # what it holds belongs to the event loop of the chunk before
    torch.set_num_threads(options.threads)
    asyncio.run(_play(options, first))


async def _play(options: argparse.Namespace, first: int) -> None:
    done, bench = stored(options), Bench(options, first)
    pool = Method("pool", depth=0)
    wanted = [TPO, pool.name, *options.begin_with]
    methods = [METHODS[0], pool, *METHODS[1:]]
    methods.sort(key=lambda m: wanted.index(m.name) if m.name in wanted else len(wanted))
    for taste in options.tastes:
        for method in methods:
            if (first, taste, method.name) in done:
                continue
            began, used = time.monotonic(), time.process_time()
            if method is pool:
                rows = await bench.run(taste, pool, POOL - WIDTH, options.seed + 1)
            else:
                rows = await bench.run(taste, method)
            took, cpu = time.monotonic() - began, time.process_time() - used
            about = {"seed": options.seed, "chunk": options.chunk, "first": first, "taste": taste}
            record = {**about, "method": method.name, "took": took, "cpu": cpu, "rows": rows}
            with options.store.open("a", encoding="utf-8") as file:
                file.write(f"\n{json.dumps(record)}\n")
            print(
                f"{first}: {taste}: {method.name} took {took:.0f} s, {cpu:.0f} s of CPU", flush=True
            )


def stored(options: argparse.Namespace) -> dict[tuple[int, str, str], list[dict[str, Any]]]:
    """What the store holds, by first query of the chunk, taste and method."""
    found: dict[tuple[int, str, str], list[dict[str, Any]]] = {}
    if options.store.exists():
        for text in options.store.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(text)
            except ValueError:  # empty, or cut by a kill: it is run again
                continue
            for name in ("seed", "chunk"):
                if record.get(name) != getattr(options, name):
                    raise SystemExit(
                        f"{options.store} was made with --{name} {record.get(name)}: give it, or "
                        "another --store"
                    )
            found[record["first"], record["taste"], record["method"]] = record["rows"]
    return found


def whole(done: dict[tuple[int, str, str], list[dict[str, Any]]]) -> Results:
    """Per taste the chunks that every method has answered, put together; where there is none, the
    methods that have answered the first."""
    names = ["pool", *(method.name for method in METHODS)]
    results: Results = {}
    for first, taste in sorted({(first, taste) for first, taste, _ in done}):
        found = [name for name in names if (first, taste, name) in done]
        if found == names or (first == 0 and {TPO, "pool"} <= set(found)):
            for name in found:
                results.setdefault((taste, name), []).extend(done[first, taste, name])
    if not results:
        raise SystemExit("no queries have been answered by all methods yet: run it again to resume")
    return results


@dataclass(frozen=True)
class Line:
    """One method under one taste, per query."""

    method: Method
    depth: float
    """Updates made, on average."""
    tokens: list[float]
    reward: list[float]
    gold: list[float]

    @property
    def pflops(self) -> float:
        """By the paper's accounting: an update or critic call costs twice a first sample or so."""
        each = (paper_flops(1, 1) - paper_flops(1, 0)) / 3
        calls = self.depth * (self.method.critics + WIDTH)
        return (paper_flops(WIDTH, 0) + calls * each) / 1e15


def line(method: Method, rows: Sequence[dict[str, Any]], target: float | None) -> Line:
    """The method at the depth that costs nearest to `target` tokens, if its depth is to fit."""

    def at(depth: int) -> Line:
        cut = [row["steps"][: depth + 1] for row in rows]
        return Line(
            method,
            fmean(len(steps) - 1 for steps in cut),
            [sum(step["tokens"] for step in steps) for steps in cut],
            [steps[-1]["reward"] for steps in cut],
            [steps[-1]["gold"] for steps in cut],
        )

    if not method.fits or target is None:
        return at(method.depth)
    return min(
        (at(depth) for depth in range(1, method.depth + 1)),
        key=lambda found: abs(fmean(found.tokens) - target),
    )


class BestOf:
    """Best-of-N of the same samples: TPO's five, and the pool's."""

    def __init__(self, firsts: Sequence[dict[str, Any]], pools: Sequence[dict[str, Any]]) -> None:
        self._pools = [
            [[row["steps"][0]["reward"], row["steps"][0]["gold"]]] * WIDTH + pool["pool"]
            for row, pool in zip(firsts, pools, strict=True)
        ]
        drawn = POOL - WIDTH
        self._prompt = fmean(pool["prompt"] for pool in pools)
        spent = fmean(sum(step["tokens"] for step in pool["steps"]) for pool in pools)
        self._each = (spent - self._prompt) / drawn

    def n_for(self, tokens: float) -> int:
        """The N that costs so much, at most the pool."""
        return min(POOL, max(WIDTH, round((tokens - self._prompt) / self._each)))

    def tokens(self, n: int) -> float:
        """What N samples cost on average: one prompt, N answers."""
        return self._prompt + n * self._each

    def gold(self, n: int) -> list[float]:
        """Gold of the best of N by reward, per query."""
        return [max(pool[:n], key=lambda c: c[0])[1] for pool in self._pools]

    def reward(self, n: int) -> list[float]:
        """The reward of the best of N, per query."""
        return [max(pool[:n], key=lambda c: c[0])[0] for pool in self._pools]


def shown(values: Sequence[float], sign: str = "") -> str:
    """A mean with its 95% interval (Student's t over queries)."""
    found = estimate(list(values))
    if found.low is None or found.high is None:
        return f"{found.value:{sign}.2f}"
    return f"{found.value:{sign}.2f} [{found.low:.2f}, {found.high:.2f}]"


def minus(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """Differences, query by query."""
    return [a - b for a, b in zip(first, second, strict=True)]


HEAD = (
    "| method | updates | tokens | PFLOPs (paper) | reward | gold | minus TPO (p) "
    "| minus best-of-N at its tokens (p) | minus best-of-2N |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


def table(taste: str, results: Results, report: Callable[[str], None]) -> None:
    """The table of one taste, and how many queries would tell the runner-up from TPO."""
    tpo = line(METHODS[0], results[taste, TPO], None)
    budget = fmean(tpo.tokens)
    there = [method for method in METHODS if (taste, method.name) in results]
    there = [m for m in there if len(results[taste, m.name]) == len(tpo.gold)]
    lines = [line(method, results[taste, method.name], budget) for method in there]
    plain = BestOf(results[taste, TPO], results[taste, "pool"])
    against = [minus(each.gold, tpo.gold) for each in lines[1:]]
    sizes = [plain.n_for(fmean(each.tokens)) for each in lines]
    equal = [minus(each.gold, plain.gold(n)) for each, n in zip(lines, sizes, strict=True)]
    corrected = holm([p_value(values) for values in [*against, *equal]])
    report(f"## Taste `{taste}`, {len(tpo.gold)} held-out queries\n\n{HEAD}")
    for place, each in enumerate(lines):
        n, double = sizes[place], min(POOL, 2 * sizes[place])
        lead = "" if place == 0 else f"{shown(against[place - 1], '+')} ({p(corrected[place - 1])})"
        mark = "°" * each.method.ruled + "†" * each.method.control
        report(
            f"| {each.method.name}{mark} | {each.depth:.1f} | {fmean(each.tokens):.0f} "
            f"| {each.pflops:.1f} | {fmean(each.reward):.2f} | {shown(each.gold)} | {lead} "
            f"| {shown(equal[place], '+')} (N={n}, {p(corrected[len(against) + place])}) "
            f"| {shown(minus(each.gold, plain.gold(double)), '+')} (N={double}) |"
        )
    for n in dict.fromkeys([WIDTH, 15, sizes[0], 33, min(POOL, 2 * sizes[0])]):
        report(
            f"| best-of-{n} | 0.0 | {plain.tokens(n):.0f} | {paper_flops(n, 0) / 1e15:.1f} "
            f"| {fmean(plain.reward(n)):.2f} | {shown(plain.gold(n))} "
            f"| {shown(minus(plain.gold(n), tpo.gold), '+')} | | |"
        )
    if missing := [method.name for method in METHODS if method not in there]:
        report(f"\nNot finished on these queries: {', '.join(missing)}.")
    count = len(against) + len(equal)
    report(f"\n{count} differences have a p value; they are corrected for that (Holm).")
    rivals = [i for i, each in enumerate(lines) if i and not each.method.control]
    closest = max(rivals, key=lambda i: fmean(lines[i].gold))
    needed = prompts_needed(against[closest - 1], count)
    report(
        f"The best of the others by gold is {lines[closest].method.name}: to tell a difference of "
        f"{fmean(against[closest - 1]):+.2f} from 0 with all {count} comparisons, "
        f"{needed or 'no number of'} queries would be needed.\n"
    )


def p(value: float | None) -> str:
    """A p value for people."""
    return "p -" if value is None else "p<.001" if value < 0.001 else f"p={value:.3f}"


def main() -> None:
    """Parse the options, run, print and write the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--queries", type=int, default=240)
    parser.add_argument("--begin-with", nargs="+", default=[], help="methods to run first")
    parser.add_argument("--chunk", type=int, default=120, help="queries between two resumable ends")
    parser.add_argument("--tastes", nargs="+", choices=list(GOLD), default=list(GOLD))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", type=Path, default=HERE / "models")
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="chunks side by side"
    )
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--store", type=Path, required=True, help="results; resumed when there")
    parser.add_argument("--table", action="store_true", help="of what is stored; run nothing")
    parser.add_argument("--out", type=Path, help="the tables, as Markdown")
    options = parser.parse_args()
    if not options.table:
        chunks = range(0, options.queries, options.chunk)
        with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as workers:
            list(workers.map(play, repeat(options), chunks))
    results = whole(stored(options))
    lines: list[str] = []

    def report(text: str) -> None:
        print(text, flush=True)
        lines.append(text)

    for taste in dict.fromkeys(taste for taste, _ in results):
        table(taste, results, report)
    if options.out is not None:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
