"""The paper's analyses, each on stored batches and with no more runs than it needs.

Curves (Figure 3), stability (Figure 4), the width x depth grid (Figure 5), TPO against best-of-N of
several times its budget (Figure 6). They raise what `compare.compare` raises.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

from langchain_core.language_models import BaseChatModel

from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.bench import Bench
from tpo_graph.evaluation.compare import OnVerdict, check_audit, compared, run_best_of, run_loop
from tpo_graph.evaluation.finished import WHOLE, Arm, Finished, View
from tpo_graph.evaluation.judging import Judge
from tpo_graph.evaluation.methods import Loop, best_of, parse_methods
from tpo_graph.evaluation.results import (
    Cell,
    Comparison,
    Curve,
    Estimate,
    Method,
    Point,
    Stability,
)
from tpo_graph.evaluation.statistics import by_prompt, estimate, mean_of, std_by_prompt
from tpo_graph.models.load import load_chat_model, model_name
from tpo_graph.rewards import RewardModel


async def curves(
    bench: Bench,
    methods: Sequence[str] = ("tpo", "revision"),
    *,
    baselines: Sequence[str | BaseChatModel] = (),
) -> Comparison:
    """Mean reward of the responses sampled at each step, against unrefined models (Figure 3).

    Args:
        bench: its depth is the length of the curves; the paper's is 5.
        methods: loops, see `parse_methods`.
        baselines: other policies, which answer once and are not refined.
    """
    loops = _loops(bench, methods)
    unrefined = [_unrefined(bench, model) for model in baselines]
    arms = [(await run_loop(bench, loop))[0] for loop in loops]
    lines = [curve(arm) for arm in arms]
    first, label = lines[0], f"{bench.names['policy']} unrefined"
    lines.append(Curve(first.method, label, True, first.points[:1]))
    for method, model in zip(unrefined, baselines, strict=True):
        (arm,) = await bench.run(method, model=model)
        arms.append(arm)
        lines.append(replace(curve(arm), baseline=True))
    return replace(await compared("curves", bench, arms), curves=lines)


async def stability(bench: Bench, methods: Sequence[str] = ("tpo",)) -> Comparison:
    """How far rewards spread over repeated runs, with TPO and without (Figure 4).

    Without is read off the first method's runs: their first sample alone, and the best of their
    first samples.

    Args:
        bench: every seed is one repetition; the paper makes 5.
        methods: loops, see `parse_methods`.
    """
    if len(bench.seeds) < 2:
        raise ConfigurationError(f"stability needs 2 or more seeds, not {list(bench.seeds)!r}")
    loops = _loops(bench, methods)
    views = (WHOLE, View(depth=0), View(width=1, depth=0))
    first, best_first, single = await run_loop(bench, loops[0], views)
    arms = [first, *[(await run_loop(bench, loop))[0] for loop in loops[1:]]]
    policy = bench.names["policy"]
    of_first = arms[0].method.name
    without = [
        replace(single, method=replace(best_of(1, policy, of_first), label="one sample")),
        replace(best_first, method=best_of(bench.width, policy, of_first)),
    ]
    found = [_spread(arm, without[0]) for arm in [*without, *arms]]
    lines = [curve(arm) for arm in arms]
    return replace(await compared("stability", bench, arms), stability=found, curves=lines)


async def grid(bench: Bench, widths: Sequence[int] = (5, 10, 15, 20)) -> Comparison:
    """The best reward at every width and depth (Figure 5).

    A run contains the shallower ones, so each width is run once, at the bench's depth.
    """
    if not widths or len(set(widths)) != len(widths) or min(widths) < 1:
        raise ConfigurationError(f"widths={list(widths)!r}: give different numbers from 1 up")
    shared = min(widths)
    arms: list[Arm] = []
    cells: list[Cell] = []
    views = [View(depth=depth) for depth in range(bench.depth + 1)]
    for width in widths:
        method = replace(
            Loop("tpo", bench.setup.prompts).method(width, bench.depth, bench.names["policy"]),
            name=f"tpo-n{width}",
        )
        by_depth = await bench.run(method, bench.setup.prompts, views=views)
        arms.append(by_depth[-1])
        for depth, arm in enumerate(by_depth):
            runs = arm.runs
            cells.append(
                Cell(
                    width=width,
                    depth=depth,
                    prompts=len({run.row_id for run in runs}),
                    reward=_mean(runs, lambda run: run.reward),
                    gain=_mean(runs, lambda run: run.reward - run.first(shared)),
                    samples=fmean(run.samples for run in runs),
                    tokens=fmean(run.tokens for run in runs),
                )
            )
    return replace(await compared("grid", bench, arms), grid=cells)


async def best_of_n(
    bench: Bench,
    sizes: Sequence[int] = (30, 60),
    *,
    judge: Judge | None = None,
    audit: RewardModel | None = None,
    on_verdict: OnVerdict | None = None,
) -> Comparison:
    """TPO against best-of-N of several times its samples (Figure 6).

    Only the largest N is run; the others are its first samples.
    """
    if not sizes or len(set(sizes)) != len(sizes) or min(sizes) < 1:
        raise ConfigurationError(f"sizes={list(sizes)!r}: give different numbers from 1 up")
    check_audit(bench, audit)
    arms = await run_loop(bench, Loop("tpo", bench.setup.prompts))
    arms += await run_best_of(bench, sorted(sizes))
    result = await compared(
        "best-of-n", bench, arms, judge=judge, audit=audit, on_verdict=on_verdict
    )
    _, *told, largest = [arm.method.label for arm in arms]
    if not told:
        return result
    note = (
        f"{' and '.join(told)} are the first samples of the runs of {largest}; their tokens are a "
        "share of those."
    )
    return replace(result, notes=[*result.notes, note])


def curve(arm: Arm) -> Curve:
    """The points of a method, as far as any of its runs got.

    The sampled reward of a step is that of the runs that made it: a run that stopped earlier has
    no samples there. The best so far is that of all runs.
    """
    runs = arm.runs
    points = [_point(runs, step) for step in range(max(len(run.steps) for run in runs))]
    return Curve(arm.method.name, arm.method.label, False, [point for point in points if point])


def _point(runs: Sequence[Finished], step: int) -> Point | None:
    made = [run for run in runs if len(run.steps) > step and run.steps[step].rewards]
    if not made:
        return None
    return Point(
        step=step,
        reward=_mean(made, lambda run: run.steps[step].mean),
        best=_mean(runs, lambda run: run.steps[min(step, len(run.steps) - 1)].best),
        spread=_mean(made, lambda run: run.steps[step].spread),
        length=fmean(run.steps[step].length for run in made),
        prompts=len({run.row_id for run in made}),
    )


def _spread(arm: Arm, without: Arm) -> Stability:
    rewards = [(run.row_id, run.reward) for run in arm.runs]
    stds = std_by_prompt(rewards)
    plain = std_by_prompt((run.row_id, run.reward) for run in without.runs)
    gaps = [(row, std - plain[row]) for row, std in stds.items() if row in plain]
    return Stability(
        method=arm.method.name,
        label=arm.method.label,
        runs=len(arm.batches),
        prompts=len(stds),
        std=mean_of(stds.items()),
        difference=mean_of(gaps) if arm is not without else None,
        reward=mean_of(rewards),
    )


def _mean(runs: Sequence[Finished], value: Callable[[Finished], float]) -> Estimate:
    return estimate(list(by_prompt((run.row_id, value(run)) for run in runs).values()))


def _loops(bench: Bench, methods: Sequence[str]) -> list[Loop]:
    loops = [m for m in parse_methods(methods, bench.setup.prompts) if isinstance(m, Loop)]
    if len(loops) < len(methods):
        raise ConfigurationError(
            f"methods {list(methods)!r}: best-of-N has no steps to follow; give loops, such as tpo"
        )
    if bench.depth == 0:
        raise ConfigurationError("depth=0 makes no step: give a depth of 1 or more")
    return loops


def _unrefined(bench: Bench, model: str | BaseChatModel) -> Method:
    name = model_name(load_chat_model(model))
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")
    return Method(f"unrefined-{slug}", f"{name} unrefined", bench.width, 0, "", name)
