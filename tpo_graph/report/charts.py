"""The charts about rewards: per iteration, their distribution, and against length."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING

from tpo_graph.report.data import Series, Step, pearson, quartiles, steps, within
from tpo_graph.report.figures import Figure, Table, figure
from tpo_graph.report.svg import MUTED, SERIES, SURFACE, Drawing, Point
from tpo_graph.report.wording import number, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = len(SERIES)
"""Maximum number of series drawn; tables have all."""
DOTS = 400
"""Maximum number of dots of one kind."""
MARKERS = "os^Dv*"
"""So that colour is not all that tells series apart."""
_PER_ITERATION = ["series", "iteration"]
_QUARTILES = ["lower quartile", "median", "upper quartile"]


def reward_curves(series: Sequence[Series], name: str) -> Figure:
    """Mean of the best so far and mean of the samples, iteration by iteration."""
    found = [(each.name, steps(each.counted)) for each in series]
    alone = len(found) == 1

    def draw(axes: "Axes") -> None:
        for (_, rows), colour, marker in zip(found, SERIES, MARKERS, strict=False):
            x = [row.iteration for row in rows]
            best = [fmean(row.best) for row in rows]
            axes.plot(x, best, color=colour, marker=marker, markersize=5)
            axes.plot(
                [row.iteration for row in rows if row.means],
                [fmean(row.means) for row in rows if row.means],
                color=colour,
                linestyle=(0, (3, 2)),
                linewidth=1.3,
            )
            if alone:
                bands = [quartiles(row.best) for row in rows]
                low, high = [band[0] for band in bands], [band[2] for band in bands]
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
        _per_iteration(axes, found, "reward")

    columns = ["runs", "mean best so far", *_QUARTILES, "mean of samples", "spread in a run"]
    table = Table(
        [*_PER_ITERATION, *columns],
        [
            [
                *(label, str(row.iteration), str(row.runs), number(fmean(row.best))),
                *map(number, quartiles(row.best)),
                *(number(fmean(row.means) if row.means else None), number(row.spread)),
            ]
            for label, rows in found
            for row in rows
        ],
        texts=2,
    )
    band = "The band holds the middle half of the runs."
    return figure(
        Drawing(draw),
        name=name,
        title="Reward per iteration",
        description="Mean of the best so far: " + "; ".join(_rise(*each) for each in found) + ".",
        caption="Means over runs; one that stopped early keeps its best. Dashed: mean of the "
        f"samples. {band if alone else _some(found)}".strip(),
        legend=[] if alone else key(label for label, _ in found),
        content=table.without("series") if alone else table,
    )


def distributions(series: Sequence[Series], name: str) -> Figure:
    """A box per iteration and series, over all samples."""
    found = [(each.name, steps(each.counted)) for each in series]
    shown = found[:SHOWN]
    width = 0.7 / len(shown)

    def draw(axes: "Axes") -> None:
        for index, (_, rows) in enumerate(shown):
            rows = [row for row in rows if row.samples]
            offset = (index - (len(shown) - 1) / 2) * width
            _boxes(axes, rows, offset, width * 0.72, SERIES[index])
        _per_iteration(axes, shown, "reward of a sample")

    table = Table(
        [*_PER_ITERATION, "samples", "lowest", *_QUARTILES, "highest"],
        [
            [
                *(label, str(row.iteration), str(len(row.samples)), number(min(row.samples))),
                *map(number, quartiles(row.samples)),
                number(max(row.samples)),
            ]
            for label, rows in found
            for row in rows
            if row.samples
        ],
        texts=2,
    )
    medians = [
        f"{label}, iteration {row.iteration}: {number(quartiles(row.samples)[1])}"
        for label, rows in shown
        for row in rows
        if row.samples
    ]
    return figure(
        Drawing(draw),
        name=name,
        title="Distribution of rewards",
        description="Median reward of the samples. " + "; ".join(medians) + ".",
        caption="Box: the middle half of the samples, with the median. Whiskers: 5% to 95%. "
        + _some(found),
        legend=key(label for label, _ in shown) if len(shown) > 1 else (),
        content=table.without("series") if len(found) == 1 else table,
    )


def reward_by_length(series: Sequence[Series], name: str) -> Figure:
    """A dot per answer, which leads to its trajectory, and how length and reward go together."""
    kinds = [
        (each.name, [(run.length, run.final or 0.0, run) for run in each.counted])
        for each in series
    ]
    colours = SERIES
    if len(series) == 1:
        first = [(run.first_length, run.first or 0.0, run) for run in series[0].counted]
        kinds = [("best first sample", first), ("answer", kinds[0][1])]
        colours = [MUTED, SERIES[0]]
    thin = [(label, dots[:: -(-len(dots) // DOTS)]) for label, dots in kinds[: len(colours)]]
    points: dict[str, list[Point]] = {
        f"dots-{place}": [
            (
                f"#{run.anchor}",
                f"{one_line(run.query, 60)}: {number(reward)}, {length:,} characters",
            )
            for length, reward, run in dots
        ]
        for place, (_, dots) in enumerate(thin)
    }

    def draw(axes: "Axes") -> None:
        for place, ((_, dots), colour, marker) in enumerate(
            zip(thin, colours, MARKERS, strict=False)
        ):
            axes.plot(
                [length for length, _, _ in dots],
                [reward for _, reward, _ in dots],
                marker,
                color=colour,
                markerfacecolor="none" if colour == MUTED else colour,
                markersize=5,
                alpha=0.7,
                gid=f"dots-{place}",
            )
        axes.set_xlabel("length in characters")
        axes.set_ylabel("reward")

    rows = [
        [label, f"{low:,} to {high:,}", str(count), number(reward)]
        for label, dots in kinds
        for low, high, count, reward in _fifths([(length, found) for length, found, _ in dots])
    ]
    meaning = _correlation(series)
    return figure(
        Drawing(draw, points=points),
        name=name,
        title="Reward against length",
        description=f"A dot per response. {meaning}",
        caption=f"{meaning} A dot leads to its trajectory.",
        content=Table(["response", "characters", "runs", "mean reward"], rows, texts=2),
        legend=key((label for label, _ in thin), muted=len(series) == 1),
    )


def _correlation(series: Sequence[Series]) -> str:
    found = [(each.name, pearson(within(each.counted))) for each in series]
    said = [
        f"{r:.2f}" + (f" ({label})" if len(series) > 1 else "")
        for label, r in found
        if r is not None
    ]
    return (
        "Among the samples of one query, length and reward correlate by "
        + ", ".join(said)
        + " (Pearson's r)."
        if said
        else "There are too few samples to correlate length and reward."
    )


def _some(series: Sequence[object]) -> str:
    return f"The first {SHOWN} are drawn." if len(series) > SHOWN else ""


def key(labels: Iterable[str], *, muted: bool = False) -> list[tuple[str, str]]:
    """The legend of as many series as are drawn.

    Args:
        muted: the first is in grey, the others begin with the first colour.
    """
    colours = [*(["muted"] * muted), *(f"series-{number}" for number in range(1, SHOWN + 1))]
    return list(zip(labels, colours, strict=False))


def _per_iteration(axes: "Axes", found: Sequence[tuple[str, list[Step]]], label: str) -> None:
    deepest = max(row.iteration for _, rows in found for row in rows)
    axes.set_xlabel("iteration")
    axes.set_ylabel(label)
    axes.set_xlim(-0.5, deepest + 0.5)
    axes.set_xticks(range(0, deepest + 1, -(-(deepest + 1) // 12)))
    axes.grid(visible=False, axis="x")


def _boxes(axes: "Axes", rows: Sequence[Step], offset: float, width: float, colour: str) -> None:
    line = {"color": colour, "linewidth": 1.4}
    axes.boxplot(
        [row.samples for row in rows],
        positions=[row.iteration + offset for row in rows],
        widths=width,
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": SURFACE, "edgecolor": colour, "linewidth": 1.4},
        medianprops={"color": colour, "linewidth": 2.8, "solid_capstyle": "butt"},
        whiskerprops=line,
        capprops=line,
    )
    for row in rows:
        if len(row.samples) <= 40:
            x = [row.iteration + offset] * len(row.samples)
            axes.plot(x, row.samples, "o", color=colour, markersize=4, alpha=0.6)


def _rise(label: str, rows: Sequence[Step]) -> str:
    first, last = fmean(rows[0].best), fmean(rows[-1].best)
    return f"{label}, from {number(first)} to {number(last)} in {len(rows) - 1} iterations"


def _fifths(pairs: Sequence[tuple[int, float]]) -> list[tuple[int, int, int, float]]:
    """(shortest, longest, how many, mean reward) of five groups of equal size by length."""
    ordered = sorted(pairs)
    cuts = [len(ordered) * part // 5 for part in range(6)]
    groups = [ordered[low:high] for low, high in pairwise(cuts)]
    return [
        (group[0][0], group[-1][0], len(group), fmean(reward for _, reward in group))
        for group in groups
        if group
    ]
