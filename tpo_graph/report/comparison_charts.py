"""The charts of a comparison or an analysis: methods, win rates, curves, stability, the grid."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tpo_graph.evaluation.results import Comparison, Curve, Estimate, WinRate
from tpo_graph.report.charts import MARKERS, key
from tpo_graph.report.figures import Figure, Table, figure
from tpo_graph.report.svg import INK, MUTED, SERIES, Drawing
from tpo_graph.report.wording import between, in_lines, number, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = tuple[str, Estimate]

_LABEL = 26
"""Characters in a line of a row's label: about 40% of a chart's width."""


def intervals(
    rows: Sequence[Row],
    name: str,
    title: str,
    what: str,
    caption: str,
    *,
    zero: bool = False,
    content: Table | None = None,
) -> Figure:
    """A dot with its interval per row.

    Args:
        what: the label of the axis.
        zero: whether to mark 0, from which a difference is told.
        content: the numbers, where they are more than what is drawn.
    """

    labels = [in_lines(label, _LABEL) for label, _ in rows]

    def draw(axes: "Axes") -> None:
        for place, (_, each) in enumerate(rows):
            colour = SERIES[0]
            if each.low is not None and each.high is not None:
                axes.plot([each.low, each.high], [place, place], color=colour, linewidth=2.2)
            axes.plot([each.value], [place], "o", color=colour, markersize=7)
        if zero:
            axes.axvline(0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.set_yticks(range(len(rows)), labels, fontsize=10)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(what)
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False, axis="y")
        axes.locator_params(axis="x", nbins=5)

    drawn = [
        [label, number(each.value), number(each.low), number(each.high)] for label, each in rows
    ]
    return figure(
        Drawing(draw, height=_height(labels)),
        name=name,
        title=title,
        description="; ".join(f"{label}: {between(each)}" for label, each in rows) + ".",
        caption=caption,
        content=content or Table(["of", "mean", "from", "to"], drawn),
    )


def win_rates(rows: Sequence[tuple[str, WinRate]], name: str) -> Figure:
    """Bars of wins, ties and losses."""
    labels = [in_lines(label, _LABEL) for label, _ in rows]

    def draw(axes: "Axes") -> None:
        left = [0.0] * len(rows)
        totals = [rate.wins + rate.ties + rate.losses for _, rate in rows]
        parts = [
            (SERIES[0], [rate.wins for _, rate in rows]),
            (MUTED, [rate.ties for _, rate in rows]),
            (SERIES[1], [rate.losses for _, rate in rows]),
        ]
        for colour, counts in parts:
            shares = [
                100 * count / total if total else 0.0
                for count, total in zip(counts, totals, strict=True)
            ]
            axes.barh(range(len(rows)), shares, 0.6, left, color=colour)
            left = [a + b for a, b in zip(left, shares, strict=True)]
        axes.axvline(50, color=INK, linewidth=1)
        axes.set_yticks(range(len(rows)), labels, fontsize=10)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, 100)
        axes.set_xlabel("% of the runs")
        axes.spines["left"].set_visible(False)
        axes.grid(visible=False)

    content = [
        [label.replace("\n", " "), rate.scorer, percent(rate.rate)]
        + [f"{n:,}" for n in (rate.wins, rate.ties, rate.losses, rate.inconsistent, rate.failed)]
        for label, rate in rows
    ]
    said = [f"{row[0]}: {row[2]}" for row in content]
    return figure(
        Drawing(draw, height=_height(labels)),
        name=name,
        title="Win rates",
        description="; ".join(said) + ".",
        caption="How often the first method's answer is the better one, among the runs of the same "
        "prompt and seed that both finished. Ties count half.",
        content=Table(
            ["pair", "scorer", "win rate", "wins", "ties", "losses", "inconsistent", "no verdict"],
            content,
            texts=2,
        ),
        legend=[("wins", "series-1"), ("ties", "muted"), ("losses", "series-2")],
    )


def curves(found: Sequence[Curve], name: str) -> Figure:
    """Reward of the responses sampled in each step; baselines as level lines (Figure 3)."""
    deepest = max((point.step for curve in found for point in curve.points), default=0)

    def draw(axes: "Axes") -> None:
        for curve, colour, marker in zip(found, SERIES, MARKERS, strict=False):
            values = [point.reward.value for point in curve.points]
            if curve.baseline:
                axes.axhline(values[0], color=colour, linestyle=(0, (4, 3)))
                continue
            x = [point.step for point in curve.points]
            axes.plot(x, values, color=colour, marker=marker, markersize=5)
            bands = [
                (point.step, point.reward.low, point.reward.high)
                for point in curve.points
                if point.reward.low is not None and point.reward.high is not None
            ]
            if bands:
                steps, low, high = zip(*bands, strict=True)
                axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xlim(-0.5, deepest + 0.5)
        axes.set_xticks(range(0, deepest + 1, -(-(deepest + 1) // 12)))
        axes.set_xlabel("step")
        axes.set_ylabel("reward of the step's samples")
        axes.grid(visible=False, axis="x")

    rows = [
        [
            *(curve.label, str(point.step), f"{point.prompts:,}", between(point.reward)),
            *(between(point.best), between(point.spread), f"{point.length:,.0f}"),
        ]
        for curve in found
        for point in curve.points
    ]
    ends = [
        f"{c.label}: {number(c.points[0].reward.value)}"
        + ("" if c.baseline else f" to {number(c.points[-1].reward.value)}")
        for c in found
        if c.points
    ]
    return figure(
        Drawing(draw),
        name=name,
        title="Reward of the samples, step by step",
        description="; ".join(ends) + ".",
        caption="Means over prompts with 95% intervals. Dashed: unrefined baselines.",
        legend=key(curve.label for curve in found),
        content=Table(
            ["method", "step", "prompts", "reward of samples", "best so far", "spread", "length"],
            rows,
            texts=2,
        ),
    )


def grid(comparison: Comparison, name: str) -> Figure:
    """Mean final reward by width and depth (Figure 5)."""
    cells = {(cell.width, cell.depth): cell for cell in comparison.grid}
    widths = sorted({width for width, _ in cells})
    depths = sorted({depth for _, depth in cells})
    values = [cell.reward.value for cell in comparison.grid]
    low, high = min(values), max(values)

    def draw(axes: "Axes") -> None:
        from matplotlib.patches import Rectangle

        for (width, depth), cell in cells.items():
            x, y = widths.index(width), depths.index(depth)
            share = (cell.reward.value - low) / (high - low) if high > low else 0.5
            # Never so dark that the number in it could not be read, on a light page or a dark one.
            corner, alpha = (x - 0.48, y - 0.46), 0.04 + 0.4 * share
            axes.add_patch(Rectangle(corner, 0.96, 0.92, color=SERIES[0], alpha=alpha, linewidth=0))
            axes.text(x, y, number(cell.reward.value), ha="center", va="center", fontsize=10.5)
        axes.set_xticks(range(len(widths)), [str(width) for width in widths])
        axes.set_yticks(range(len(depths)), [str(depth) for depth in depths])
        axes.set_xlim(-0.5, len(widths) - 0.5)
        axes.set_ylim(-0.5, len(depths) - 0.5)
        axes.set_xlabel("width N")
        axes.set_ylabel("depth D")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    rows = [
        [
            *(f"D{depth}-N{width}", between(cell.reward), between(cell.gain)),
            *(f"{cell.samples:,.0f}", f"{cell.tokens:,.0f}", f"{cell.prompts:,}"),
        ]
        for (width, depth), cell in sorted(cells.items())
    ]
    top = max(comparison.grid, key=lambda cell: cell.reward.value)
    return figure(
        Drawing(draw, height=90 + 44 * max(3, len(depths))),
        name=name,
        title="Width and depth",
        description=f"Mean reward of the answer from {number(low)} to {number(high)}; the highest "
        f"at depth {top.depth} and width {top.width}.",
        caption="Mean reward of the answer; the stronger the colour, the higher.",
        content=Table(["setting", "reward", "gain", "samples", "tokens", "prompts"], rows),
    )


def _height(labels: Sequence[str]) -> int:
    """For rows of these labels, all as high as the one of most lines."""
    lines = max((label.count("\n") + 1 for label in labels), default=1)
    return 80 + max(34, 15 * lines + 8) * max(2, len(labels))
