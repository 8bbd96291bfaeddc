"""What a comparison or an analysis found: findings, prompts by methods, tables and charts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from tpo_graph.evaluation.compare import told_apart
from tpo_graph.evaluation.results import Answer, Comparison, Estimate, MethodResult, Pair
from tpo_graph.report import comparison_tables as tables
from tpo_graph.report.comparison_charts import curves, grid, intervals, win_rates
from tpo_graph.report.comparison_tables import CAPTION, SCORERS, pair_label
from tpo_graph.report.data import Answers, headline
from tpo_graph.report.diff import compare
from tpo_graph.report.figures import Figure, Table
from tpo_graph.report.render import macros
from tpo_graph.report.wording import between, short_name

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Cell:
    """What one method made of one prompt; numbers are means over the seeds."""

    reward: float
    audit: float | None
    difference: float | None
    """In reward, from the method that the others are compared with; None for that one."""
    top: bool
    """The highest reward of its row."""
    said: str
    """The answer's first words."""
    body: "Markup | None"
    """The answer under the first seed, and what differs from the other method's."""
    runs: list[tuple[int, str]]
    """(seed, id on the page) of its runs."""


@dataclass(frozen=True)
class Compared:
    """The section of one comparison."""

    title: str
    warnings: list[str]
    """What speaks against the numbers."""
    notes: list[str]
    """What a reader of them must know."""
    methods: list[tuple[str, str, str]]
    """The columns of the matrix: label, mean reward, mean audit."""
    base: str
    """The method that the others are compared with."""
    rows: list[tuple[str, str, list[Cell | None]]]
    """(row id, query, a cell per method)."""
    tables: list[tuple[str, Table]]
    charts: list[Figure]


def compared(
    comparison: Comparison, answers: Answers, anchors: Mapping[str, str], name: str
) -> Compared:
    """What there is to show of a comparison.

    Args:
        answers: its texts.
        anchors: ids on the page, by run id.
        name: begins the ids of its charts.
    """
    title = headline(comparison)
    base = _base(comparison)
    found: list[tuple[str, Table]] = []
    if comparison.methods:
        found.append(("Methods", tables.methods(comparison)))
    if comparison.pairs:
        found.append(("Differences between methods", tables.pairs(comparison)))
    return Compared(
        title=title[:1].upper() + title[1:],
        warnings=[said for pair in comparison.pairs if (said := _disagreement(comparison, pair))],
        notes=[*told_apart(comparison), *comparison.notes],
        methods=[
            (each.method.label, between(each.reward), between(each.audit) if each.audit else "")
            for each in comparison.methods
        ],
        base="" if base is None else base.method.label,
        rows=_matrix(comparison, base, answers, anchors),
        tables=found,
        charts=_charts(comparison, name),
    )


def set_up(comparison: Comparison) -> list[tuple[str, str]]:
    """What was compared on what: names and values."""
    found = [
        ("prompts", f"{comparison.prompts:,} from {comparison.source}"),
        ("seeds", ", ".join(map(str, comparison.seeds))),
        ("methods", "; ".join(result.method.label for result in comparison.methods)),
        ("policy", comparison.model),
        ("critic", comparison.critic if comparison.critic != comparison.model else ""),
        ("reward model", comparison.reward_model),
        ("audited by", comparison.audit_reward_model or ""),
        ("judged by", comparison.judge or ""),
        ("equal in", comparison.budget or ""),
        ("compared", f"{comparison.created_at[:16].replace('T', ' ')} UTC"),
        ("command", comparison.command),
        ("by tpo_graph", comparison.version),
    ]
    return [(name, value) for name, value in found if value]


def _disagreement(comparison: Comparison, pair: Pair) -> str:
    """Whether the held-out reward model sees a difference the other way round."""
    reward, audit = pair.reward, pair.audit
    if reward is None or audit is None or reward.value * audit.value >= 0:
        return ""
    sure = [_excludes_zero(each) for each in (reward, audit)]
    if not sure[0]:
        return ""
    how = "disagrees" if sure[1] else "leans the other way"
    return (
        f"The held-out reward model {how}: {pair_label(comparison, pair)} is "
        f"{between(reward, signed=True)} in reward and {between(audit, signed=True)} by "
        f"{short_name(comparison.audit_reward_model or '')}, which no method saw."
    )


def _excludes_zero(estimate: Estimate) -> bool:
    low, high = estimate.low, estimate.high
    return low is not None and high is not None and (low > 0 or high < 0)


def _base(comparison: Comparison) -> MethodResult | None:
    """The method without a loop, or the last: what the others are compared with."""
    simple = [result for result in comparison.methods if result.method.depth == 0]
    return next(iter(simple or comparison.methods[::-1]), None)


def _matrix(
    comparison: Comparison,
    base: MethodResult | None,
    answers: Answers,
    anchors: Mapping[str, str],
) -> list[tuple[str, str, list[Cell | None]]]:
    if base is None or len(comparison.methods) < 2:
        return []
    by_row: dict[str, dict[str, list[Answer]]] = {}
    for result in comparison.methods:
        for answer in result.answers:
            by_row.setdefault(answer.row_id, {}).setdefault(result.method.name, []).append(answer)
    rows: list[tuple[str, str, list[Cell | None]]] = []
    for row_id, methods in by_row.items():
        means = {name: fmean(each.reward for each in found) for name, found in methods.items()}
        level = means.get(base.method.name)
        cells: list[Cell | None] = []
        for result in comparison.methods:
            name = result.method.name
            if name not in methods:
                cells.append(None)
                continue
            found = methods[name]
            audits = [each.audit for each in found if each.audit is not None]
            text = answers.texts.get((name, row_id, found[0].seed), "")
            other = answers.texts.get((base.method.name, row_id, found[0].seed), "")
            differs = result is not base and level is not None
            cells.append(
                Cell(
                    reward=means[name],
                    audit=fmean(audits) if audits else None,
                    difference=means[name] - level if differs and level is not None else None,
                    top=means[name] == max(means.values()),
                    said=text,
                    body=_body(text, other if differs else "", base.method.label),
                    runs=[
                        (each.seed, anchors[each.run_id])
                        for each in found
                        if each.run_id in anchors
                    ],
                )
            )
        rows.append((row_id, answers.queries.get(row_id, ""), cells))
    return rows


def _body(text: str, other: str, base: str) -> "Markup | None":
    if not text:
        return None
    return macros("compared.html").answer(text, compare(other, text) if other else [], base)


def _charts(comparison: Comparison, name: str) -> list[Figure]:
    charts: list[Figure] = []
    pairs = [(pair_label(comparison, pair), pair) for pair in comparison.pairs]
    rates = [
        (f"{label}\n{SCORERS[rate.by]}", rate) for label, pair in pairs for rate in pair.win_rates
    ]
    if comparison.grid:
        charts.append(grid(comparison, f"{name}-grid"))
    if drawable := [curve for curve in comparison.curves if curve.points]:
        charts.append(curves(drawable, f"{name}-curves"))
    rewards = _estimates([(r.method.label, r.reward) for r in comparison.methods])
    if len(rewards) > 1:
        title, what = "Reward by method", "reward of the answer"
        charts.append(intervals(rewards, f"{name}-reward", title, what, CAPTION))
    gains = _estimates([(r.method.label, r.gain) for r in comparison.methods])
    if len(gains) > 1:
        title, what = "Gain by method", "answer minus best first sample"
        charts.append(intervals(gains, f"{name}-gain", title, what, CAPTION, zero=True))
    if differences := _estimates([(label, pair.reward) for label, pair in pairs]):
        title, what = "Differences in reward", "first minus second"
        caption = f"{CAPTION} Paired by prompt and seed."
        charts.append(intervals(differences, f"{name}-pairs", title, what, caption, zero=True))
    if rates:
        charts.append(win_rates(rates, f"{name}-wins"))
    if spreads := _estimates([(each.label, each.std) for each in comparison.stability]):
        title, what = "Stability over repeated runs", "standard deviation of the reward"
        caption = "Spread of the final reward of a prompt over its runs; less is steadier. "
        stable = tables.stability(comparison)
        name = f"{name}-stability"
        charts.append(intervals(spreads, name, title, what, caption + CAPTION, content=stable))
    return charts


def _estimates(rows: Sequence[tuple[str, Estimate | None]]) -> list[tuple[str, Estimate]]:
    return [(label, each) for label, each in rows if each is not None]
