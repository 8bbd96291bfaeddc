"""What each guard against reward hacking gains and costs, in gold, on the offline world.

Three settings, in each of which all arms start from the same first samples:

- blind: deep and wide, hot sampling (temperature 1.3), under `reward-weak`, which never saw a
  reply with anything wrong in it. Hot sampling makes slips; deep selection collects them.
- length: deep and wide under a reward model whose annotators often took the longer reply, while
  gold is `brief`.
- normal: the example's own D2-N5 under `reward-warm`: what do guards cost where nothing is wrong?

A length curve and the calibrations come from first samples for other queries, never from gold.
*proxy* is what an arm maximises, on its own scale; *gold* the world's taste of the same reply.

    python -m benchmarks.guards [--queries 12] [--normal-queries 40] [--only blind length normal]
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tpo_graph.conversation import Turn, turns
from tpo_graph.rewards import (
    Calibration,
    EnsembleRewardModel,
    LengthPenalty,
    Member,
    RewardModel,
    fit_length_curve,
)
from tpo_graph.session.audit import audited
from tpo_graph.session.result import TPOResult

HOT = {"temperature": 1.3, "top_p": 1.0, "max_tokens": 120}
Samples = list[tuple[list[Turn], list[str]]]


@dataclass
class Setup:
    """One setting of the benchmark."""

    title: str
    taste: str
    """Gold."""
    proxy: RewardModel
    """The reward model to guard."""
    partners: dict[str, list[RewardModel]]
    """What is joined with the proxy, by a name for the table; the last also by mean and spread."""
    auditors: dict[str, RewardModel]
    depth: int
    width: int
    queries: int
    alone: dict[str, RewardModel] = field(default_factory=dict[str, RewardModel])
    """Partners that also run by themselves, to see whether an ensemble is more than its parts."""
    sampling: Mapping[str, Any] = field(default_factory=dict[str, Any])


async def first_samples(setup: Setup, seed: int, count: int = 60) -> Samples:
    """Conversations with five first samples each, to calibrate on; not the queries of the arms."""
    from benchmarks.offline_world import held_out_queries, play

    queries = held_out_queries(count, seed + 1000)
    runs = await play(queries, setup.proxy, 0, 5, seed + 1000, **setup.sampling)
    return [
        ([Turn(role="user", content=query.text)], [c["response"] for c in run])
        for query, run in zip(queries, runs.candidates, strict=True)
    ]


async def arms(setup: Setup, samples: Samples) -> dict[str, RewardModel]:
    """The reward model of each arm."""
    scores = {
        id(model): [await model.score(conversation, texts) for conversation, texts in samples]
        for model in [setup.proxy, *(m for models in setup.partners.values() for m in models)]
    }
    mine = scores[id(setup.proxy)]
    curve = fit_length_curve(
        [
            list(zip(texts, given, strict=True))
            for (_, texts), given in zip(samples, mine, strict=True)
        ]
    )
    made: dict[str, RewardModel] = {
        "no guard": setup.proxy,
        "length penalty": LengthPenalty(setup.proxy, curve),
    }
    for name, partners in setup.partners.items():
        members = [
            Member(model, _calibration(scores[id(model)])) for model in [setup.proxy, *partners]
        ]
        made[f"worst case, {name}"] = EnsembleRewardModel(members, "min")
    made[f"mean - std/2, {name}"] = EnsembleRewardModel(members, "mean-std", penalty=0.5)
    return made | {f"{name} alone": model for name, model in setup.alone.items()}


def _calibration(scores: Sequence[Sequence[float]]) -> Calibration:
    import numpy as np

    flat = np.array([score for given in scores for score in given])
    return Calibration(float(flat.mean()), float(flat.std()))


async def measure(setup: Setup, seed: int) -> str:
    """The tables of one setting."""
    import numpy as np

    from benchmarks.offline_world import Runs, gold, held_out_queries, interval, play, table

    began = time.monotonic()
    queries = held_out_queries(setup.queries, seed)
    models = await arms(setup, await first_samples(setup, seed))
    ran = await asyncio.gather(
        *(
            play(queries, m, setup.depth, setup.width, seed, **setup.sampling)
            for m in models.values()
        )
    )
    results: dict[str, Runs] = dict(zip(models, ran, strict=True))
    bare = results["no guard"]
    steps = sorted(
        {0, 1, 2, *range(2, setup.depth + 1, 2), setup.depth} & {*range(setup.depth + 1)}
    )
    rows = [["arm", "", *(f"step {step}" for step in steps), "characters"]]
    for name, runs in results.items():
        last = [len(steps[-1]["response"]) for steps in runs.best_so_far()]
        for what, values in (("proxy", runs.proxy()), ("gold", runs.gold(setup.taste))):
            cells = [interval(values[:, step]) for step in steps]
            rows.append([name, what, *cells, f"{np.mean(last):.0f}" if what == "gold" else ""])
    first, end = bare.gold(setup.taste)[:, 0], bare.gold(setup.taste)[:, -1]
    peak = int(bare.gold(setup.taste).mean(axis=0).argmax())
    turned = interval(end - bare.gold(setup.taste)[:, peak])
    lines = [["gold of the answer, paired by query", "minus best first sample", "minus no guard"]]
    for name, runs in results.items():
        final = runs.gold(setup.taste)[:, -1]
        lead = "" if runs is bare else interval(final - end)
        lines.append([name, interval(final - first), lead])
    for name, auditor in setup.auditors.items():
        answers, flags = await _fallbacks(bare, auditor)
        final = np.array([gold(setup.taste, q, r) for q, r in zip(queries, answers, strict=True)])
        harmed = end < first
        lines.append([f"audit by {name}", interval(final - first), interval(final - end)])
        lines[-1][0] += f" ({sum(flags)} fell back, {sum(np.array(flags) & harmed)} of "
        lines[-1][0] += f"{harmed.sum()} that lost gold)"
    return "\n".join(
        [
            f"-- {setup.title}: D{setup.depth}-N{setup.width}, gold `{setup.taste}`, "
            f"{setup.queries} held-out queries, seed {seed}, {time.monotonic() - began:.0f} s",
            table(rows),
            f"no guard: gold is highest at step {peak}; last step minus that one: {turned}",
            table(lines),
            "",
        ]
    )


async def _fallbacks(runs: Any, auditor: RewardModel) -> tuple[list[str], list[bool]]:
    """The answers of audited runs that fall back, and which of them did."""
    answers: list[str] = []
    flags: list[bool] = []
    for state, run in zip(runs.states, runs.candidates, strict=True):
        chosen = state["chosen"]
        result = TPOResult(
            response=chosen["response"],
            reward=chosen["reward"],
            iteration=chosen["iteration"],
            stop_reason=state["stop_reason"],
            run_id=state["run_id"],
            candidates=run,
            steps=[],
            history=state["history"],
            usage=state["usage"],
        )
        result = await audited(result, turns(state["messages"][:1]), auditor, fall_back=True)
        if result.audit is None:
            raise SystemExit(f"the audit failed: {result.audit_error}")
        answers.append(result.response)
        flags.append(result.audit.fell_back)
    return answers, flags


def blind(options: argparse.Namespace, folder: Path) -> Setup:
    """Over-optimised by a reward model that does not mind slips."""
    from benchmarks.offline_world import committed
    from benchmarks.weak_rewards import blind_pairs, fitted

    kin = [fitted(blind_pairs(500, seed), folder / f"blind-{seed}") for seed in (11, 12)]
    careful = committed("reward-warm")
    return Setup(
        title="blind: reward-weak, hot sampling",
        taste="warm",
        proxy=committed("reward-weak"),
        partners={"with reward-warm": [careful], "with two as blind": kin},
        alone={"reward-warm": careful},
        auditors={"one as blind": kin[0], "reward-warm": careful},
        depth=options.depth,
        width=10,
        queries=options.queries,
        sampling=HOT,
    )


def length(options: argparse.Namespace, folder: Path) -> Setup:
    """Over-optimised by a reward model that likes length."""
    from benchmarks.offline_world import committed
    from benchmarks.weak_rewards import fitted, length_loving_pairs

    proxy, *kin = [
        fitted(length_loving_pairs(1000, seed, "brief", 0.9), folder / f"length-{seed}")
        for seed in (21, 22, 23)
    ]
    few = fitted(length_loving_pairs(60, 24, "brief", 0.0), folder / "few")
    return Setup(
        title="length: annotators took the longer reply in 90% of pairs",
        taste="brief",
        proxy=proxy,
        partners={"with one of 60 careful pairs": [few], "with two alike": kin},
        alone={"one of 60 careful pairs": few},
        auditors={
            "one alike": kin[0],
            "one of 60 careful pairs": few,
            "reward-brief": committed("reward-brief"),
        },
        depth=options.depth,
        width=10,
        queries=options.queries,
        sampling=HOT,
    )


def normal(options: argparse.Namespace, folder: Path) -> Setup:
    """Nothing is over-optimised."""
    from benchmarks.offline_world import committed
    from benchmarks.weak_rewards import blind_pairs, fitted

    weak = committed("reward-weak")
    kin = fitted(blind_pairs(500, 11), folder / "blind-11")
    return Setup(
        title="normal: reward-warm",
        taste="warm",
        proxy=committed("reward-warm"),
        partners={"with reward-weak": [weak]},
        auditors={"reward-weak": weak, "one as blind": kin},
        depth=2,
        width=5,
        queries=options.normal_queries,
    )


SETUPS = {"blind": blind, "length": length, "normal": normal}


async def run(options: argparse.Namespace) -> None:
    """All settings that were asked for."""
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            print(await measure(SETUPS[name](options, Path(folder)), options.seed), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=12, help="of the over-optimised settings")
    parser.add_argument("--depth", type=int, default=6, help="of the over-optimised settings")
    parser.add_argument("--normal-queries", type=int, default=40)
    parser.add_argument("--only", nargs="+", choices=SETUPS, default=list(SETUPS))
    parser.add_argument("--seed", type=int, default=1, help="of queries and sampling")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    asyncio.run(run(options))


if __name__ == "__main__":
    main()
