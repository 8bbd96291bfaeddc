"""What runs consumed, stage by stage: a chart and a table of tokens, time, money and FLOPs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tpo_graph.costs import BillRow
from tpo_graph.report.charts import SHOWN
from tpo_graph.report.data import Series
from tpo_graph.report.figures import Figure, Table, figure
from tpo_graph.report.svg import SERIES, Drawing
from tpo_graph.report.wording import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STAGES = ("sample", "reward_score", "select", "loss", "gradient", "update")
_PARTS = ("prompt", "prompt, cached", "completion")


def spending(series: Sequence[Series], name: str) -> Figure:
    """Tokens per stage of one series, or per series of several; all means are per counted run."""
    bars = _stages(series[0]) if len(series) == 1 else [(s.name, _tokens(s)) for s in series]
    bars = [(one_line(label, 20), values) for label, values in bars[: 2 * SHOWN]]

    def draw(axes: "Axes") -> None:
        left = [0.0] * len(bars)
        for part, colour in enumerate((SERIES[0], SERIES[2], SERIES[1])):
            values = [tokens[part] for _, tokens in bars]
            if any(values):
                axes.barh(range(len(bars)), values, 0.62, left, color=colour)
            left = [a + b for a, b in zip(left, values, strict=True)]
        axes.set_yticks(range(len(bars)), [label for label, _ in bars])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlim(left=0)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("tokens per run")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")

    shares = [f"{label} {sum(values):,.0f}" for label, values in bars]
    table = Table(_COLUMNS, [row for each in series for row in _rows(each)], texts=3)
    currencies = {each.bill.currency for each in series if each.bill.cost is not None}
    priced = "Cost" + (f" in {' and '.join(sorted(currencies))}" if any(currencies) else "")
    unpriced = sorted({model for each in series for model in each.bill.unpriced})
    caption = "Means per finished run, as the providers counted. "
    if not any(each.bill.cost is not None for each in series):
        caption += "Cost: give a price table with --costs."
    elif unpriced:
        caption += f"{priced}, without {', '.join(unpriced)}, which have no price."
    else:
        caption += f"{priced}."
    return figure(
        Drawing(draw),
        name=name,
        title="Tokens and cost",
        description=f"Tokens per run: {', '.join(shares)}.",
        caption=caption,
        content=table.without("series") if len(series) == 1 else table,
        legend=list(zip(_PARTS, ("series-1", "series-3", "series-2"), strict=True)),
    )


_COLUMNS = [
    *("series", "stage", "model"),
    *("requests", "prompt", "cached", "completion", "seconds", "cost", "PFLOPs"),
]


def _stages(series: Series) -> list[tuple[str, tuple[float, float, float]]]:
    count = len(series.counted)
    return [(row.stage, _parts([row], count)) for row in _ordered(series)]


def _tokens(series: Series) -> tuple[float, float, float]:
    return _parts(series.bill.rows, len(series.counted))


def _ordered(series: Series) -> list[BillRow]:
    """In the order of the algorithm."""
    return sorted(series.bill.rows, key=lambda row: _STAGES.index(row.stage))


def _parts(rows: Sequence[BillRow], count: int) -> tuple[float, float, float]:
    prompt = sum(row.usage["prompt_tokens"] for row in rows) / count
    cached = sum(row.usage["cached_tokens"] for row in rows) / count
    completion = sum(row.usage["completion_tokens"] for row in rows) / count
    return prompt - cached, cached, completion


def _rows(series: Series) -> list[list[str]]:
    count, bill = len(series.counted), series.bill
    rows = [_row(series.name, row.stage, row.model, [row], row.cost, row.flops, count)
            for row in _ordered(series)]  # fmt: skip
    return [*rows, _row(series.name, "all", "", bill.rows, bill.cost, bill.flops, count)]


def _row(
    name: str,
    stage: str,
    model: str,
    rows: Sequence[BillRow],
    cost: float | None,
    flops: float | None,
    count: int,
) -> list[str]:
    def total(counter: str) -> float:
        return sum(row.usage[counter] for row in rows) / count  # type: ignore[literal-required]

    return [
        *(name, stage, model, f"{total('requests'):,.1f}"),
        *(f"{total(f'{kind}_tokens'):,.0f}" for kind in ("prompt", "cached", "completion")),
        f"{total('seconds'):,.1f}",
        "-" if cost is None else f"{cost / count:.6f}",
        "-" if flops is None else f"{flops / count / 1e15:.4f}",
    ]
