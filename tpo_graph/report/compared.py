"""What a comparison or an analysis found, as tables and charts of one section."""

from collections.abc import Callable

from tpo_graph.evaluation.results import Comparison, Estimate, Kind, MethodResult, Scorer
from tpo_graph.report.comparison_charts import between, curves, grid, intervals, win_rates
from tpo_graph.report.data import short
from tpo_graph.report.elements import Element, Node, h
from tpo_graph.report.figures import Table, table

_KINDS: dict[Kind, str] = {
    "compare": "comparison",
    "curves": "curves of",
    "stability": "stability of",
    "grid": "width and depth of",
    "best-of-n": "best-of-N of",
}
_SCORERS: dict[Scorer, str] = {
    "reward": "by reward",
    "audit": "by the audit's reward",
    "judge": "by the judge",
}
_CAPTION = "Means over prompts with 95% intervals: Student's t; Wilson for rates."


def headline(comparison: Comparison) -> str:
    """What it is, in a few words."""
    return f"{_KINDS[comparison.kind]} {short(comparison.name)}"


def compared(comparison: Comparison, name: str) -> list[Node]:
    """Set-up, notes, the table of methods, then what the kind of comparison has to show.

    Args:
        name: begins the ids of its charts.
    """
    found: list[Node] = [h("p", _set_up(comparison), dir="auto")]
    found += [h("p", note, class_="note", dir="auto") for note in comparison.notes]
    if comparison.methods:
        found.append(_boxed(_methods(comparison), "Methods"))
    if comparison.pairs:
        found.append(_boxed(_pairs(comparison), "Differences between methods"))
    charts = _charts(comparison, name)
    if charts:
        found.append(h("div", *charts, class_="charts"))
    return found


def _set_up(comparison: Comparison) -> str:
    seeds = len(comparison.seeds)
    said = [
        f"{comparison.prompts:,} prompts from {comparison.source}, "
        + ("one seed" if seeds == 1 else f"{seeds} seeds"),
        f"policy {comparison.model}",
        f"reward model {comparison.reward_model}",
    ]
    if comparison.critic != comparison.model:
        said.insert(2, f"critic {comparison.critic}")
    if comparison.audit_reward_model:
        said.append(f"audited by {comparison.audit_reward_model}")
    if comparison.judge:
        said.append(f"judged by {comparison.judge}")
    if comparison.budget:
        said.append(f"budgets made equal in {comparison.budget}")
    return "; ".join(said) + "."


def _boxed(content: Table, label: str) -> Element:
    """A table on a card of its own, under a heading."""
    found = table(content, label)
    shown = Element(found.tag, {**found.attributes, "class": "scroll card"}, found.children)
    return h("div", h("h3", label), shown, class_="tables")


def _methods(comparison: Comparison) -> Table:
    columns: dict[str, Callable[[MethodResult], str]] = {
        "method": lambda result: result.method.label,
        "finished": lambda result: f"{result.finished:,}",
        "failed": lambda result: f"{result.failed:,}",
        "reward": lambda result: between(result.reward),
        "gain": lambda result: between(result.gain),
        "audit": lambda result: between(result.audit),
        "characters": lambda result: between(result.length, _whole),
        "tokens": lambda result: between(result.tokens, _whole),
        "samples": lambda result: _cost(result.cost and result.cost.samples, 1),
        "PFLOPs (paper)": lambda result: _cost(result.cost and result.cost.pflops, 2),
        "PFLOPs (counted)": lambda result: _cost(result.cost and result.cost.measured_pflops, 4),
        f"cost {comparison.currency}".strip(): lambda result: _cost(
            result.cost and result.cost.money, 5
        ),
    }
    rows = {name: [say(result) for result in comparison.methods] for name, say in columns.items()}
    known = {name: cells for name, cells in rows.items() if set(cells) != {"-"}}
    return Table(list(known), [list(row) for row in zip(*known.values(), strict=True)])


def _cost(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:,.{decimals}f}"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _pairs(comparison: Comparison) -> Table:
    found = [
        [
            *(_pair(comparison, pair.first, pair.second), f"{pair.prompts:,}"),
            *(between(pair.reward), between(pair.length, _whole), between(pair.audit)),
        ]
        for pair in comparison.pairs
    ]
    columns = ["pair", "prompts", "reward", "characters", "audit"]
    kept = 5 if comparison.audit_reward_model else 4
    return Table(columns[:kept], [row[:kept] for row in found])


def _charts(comparison: Comparison, name: str) -> list[Element]:
    charts: list[Element] = []
    rewards = _estimates([(r.method.label, r.reward) for r in comparison.methods])
    gains = _estimates([(r.method.label, r.gain) for r in comparison.methods])
    differences = _estimates(
        [(_pair(comparison, pair.first, pair.second), pair.reward) for pair in comparison.pairs]
    )
    rates = [
        (f"{_pair(comparison, pair.first, pair.second)}\n{_SCORERS[rate.by]}", rate)
        for pair in comparison.pairs
        for rate in pair.win_rates
    ]
    if comparison.grid:
        charts.append(grid(comparison, f"{name}-grid"))
    drawable = [curve for curve in comparison.curves if curve.points]
    if drawable:
        charts.append(curves(drawable, f"{name}-curves"))
    if rewards:
        charts.append(
            intervals(
                rewards,
                name=f"{name}-reward",
                title="Reward by method",
                what="reward of the answer",
                caption=_CAPTION,
            )
        )
    if gains:
        charts.append(
            intervals(
                gains,
                name=f"{name}-gain",
                title="Gain by method",
                what="answer minus best first sample",
                caption=_CAPTION,
                zero=True,
            )
        )
    if differences:
        charts.append(
            intervals(
                differences,
                name=f"{name}-pairs",
                title="Differences in reward",
                what="first minus second",
                caption=f"{_CAPTION} Paired by prompt and seed.",
                zero=True,
            )
        )
    if rates:
        charts.append(win_rates(rates, f"{name}-wins"))
    spreads = _estimates([(each.label, each.std) for each in comparison.stability])
    if spreads:
        charts.append(
            intervals(
                spreads,
                name=f"{name}-stability",
                title="Stability over repeated runs",
                what="standard deviation of the reward",
                caption="Spread of the final reward of a prompt over its runs; less is steadier. "
                + _CAPTION,
                content=_stability(comparison),
            )
        )
    return charts


def _stability(comparison: Comparison) -> Table:
    rows = [
        [
            *(each.label, f"{each.runs:,}", f"{each.prompts:,}", between(each.std)),
            *(between(each.difference), between(each.reward)),
        ]
        for each in comparison.stability
    ]
    first = "minus the first row's"
    return Table(["method", "runs", "prompts", "standard deviation", first, "reward"], rows)


def _estimates(rows: list[tuple[str, Estimate | None]]) -> list[tuple[str, Estimate]]:
    return [(label, each) for label, each in rows if each is not None]


def _pair(comparison: Comparison, first: str, second: str) -> str:
    labels = {result.method.name: result.method.label for result in comparison.methods}
    return f"{labels.get(first, first)} – {labels.get(second, second)}"
