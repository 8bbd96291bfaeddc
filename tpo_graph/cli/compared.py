"""How a comparison looks on standard output: its tables, and what one must know to read them."""

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

from tpo_graph.cli.display import Console
from tpo_graph.evaluation.compare import told_apart
from tpo_graph.evaluation.results import (
    Comparison,
    Cost,
    Estimate,
    Pair,
    WinRate,
)


def print_comparison(comparison: Comparison) -> None:
    """The tables that this kind of comparison has, then the notes."""
    console = Console(highlight=False)
    if not console.is_terminal:  # a pipe has no width
        console = Console(highlight=False, width=200)
    seeds = f"{len(comparison.seeds)} seed{'s' * (len(comparison.seeds) != 1)}"
    _say(
        console,
        f"{comparison.prompts} prompts, {seeds}; policy {comparison.model}, reward model "
        f"{comparison.reward_model}",
    )
    _say(
        console,
        "Means over prompts with 95% intervals: Student's t; Wilson for rates.",
    )
    if comparison.budget is not None:
        _say(console, f"Best-of-n is made equal in {comparison.budget}.")
    if comparison.grid:
        _grid(console, comparison)
    if comparison.stability:
        _stability(console, comparison)
    if comparison.curves:
        _curves(console, comparison)
    _methods(console, comparison)
    if len(comparison.seeds) > 1:
        _seeds(console, comparison)
    _pairs(console, comparison)
    for note in comparison.notes:
        _say(console, f"Note: {note}")


def _say(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)


def _table(
    console: Console, title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]
) -> None:
    table = Table(heads[0], box=None, pad_edge=False, title=title, title_justify="left")
    for head in heads[1:]:
        table.add_column(head, justify="right")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print()
    console.print(table)


def _number(estimate: Estimate | None, digits: int = 3, sign: str = "") -> str:
    if estimate is None:
        return "-"

    def shown(value: float) -> str:
        return f"{round(value, digits) + 0.0:{sign},.{digits}f}"  # no "-0"

    if estimate.low is None or estimate.high is None:
        return shown(estimate.value)
    return f"{shown(estimate.value)} [{shown(estimate.low)}, {shown(estimate.high)}]"


def _methods(console: Console, comparison: Comparison) -> None:
    audited = comparison.audit_reward_model is not None
    heads = ["method", "reward", "gain over first", *(["audit"] * audited)]
    heads += ["characters", "samples", "requests", "tokens", "cached", "seconds", "PFLOPs (paper)"]
    measured = any(m.cost and m.cost.measured_pflops is not None for m in comparison.methods)
    priced = any(m.cost and m.cost.money is not None for m in comparison.methods)
    heads += ["PFLOPs (tokens)"] * measured + [f"cost {comparison.currency}".strip()] * priced
    rows = [
        [
            result.method.label,
            _number(result.reward),
            _number(result.gain, sign="+"),
            *([_number(result.audit)] * audited),
            _number(result.length, 0),
            *_costs(result.cost, measured, priced),
            f"{result.finished}" + (f" ({result.failed} failed)" if result.failed else ""),
        ]
        for result in comparison.methods
    ]
    _table(console, "Methods, per run", [*heads, "runs"], rows)


def _costs(cost: Cost | None, measured: bool, priced: bool) -> list[str]:
    if cost is None:
        return ["-"] * (6 + measured + priced)
    about = "~" if cost.estimated else ""
    return [
        f"{cost.samples:.1f}",
        f"{about}{cost.requests:.1f}",
        f"{about}{cost.tokens:,.0f}",
        f"{about}{cost.cached_tokens:,.0f}",
        f"{about}{cost.seconds:,.1f}",
        f"{cost.pflops:.2f}",
        *([_plain(cost.measured_pflops, 4)] * measured),
        *([_plain(cost.money, 5)] * priced),
    ]


def _plain(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _seeds(console: Console, comparison: Comparison) -> None:
    heads = ["mean reward", *(f"seed {seed}" for seed in comparison.seeds)]
    rows = [
        [result.method.label, *(_plain(seed.reward) for seed in result.seeds)]
        for result in comparison.methods
    ]
    _table(console, "By seed", heads, rows)


def _pairs(console: Console, comparison: Comparison) -> None:
    if not comparison.pairs:
        return
    heads = ["first against second", "prompts", "reward difference", "characters"]
    heads += ["audit difference"] * (comparison.audit_reward_model is not None)
    heads += ["p", "p (Holm)", "win rate by", "", "wins / ties / losses"]
    rows: list[list[str]] = []
    for pair in comparison.pairs:
        for number, rate in enumerate(pair.win_rates):
            start = _pair(comparison, pair) if number == 0 else [""] * (len(heads) - 3)
            rows.append([*start, rate.by, _percent(rate), _counts(rate)])
    _table(console, "Pairs, on the prompts and seeds that both answered", heads, rows)
    for sentence in told_apart(comparison):
        _say(console, sentence)
    for pair in comparison.pairs:
        for rate in pair.win_rates:
            if rate.failed:
                _say(
                    console,
                    f"Note: {_labels(comparison, pair)}: {rate.failed} verdicts failed and are in "
                    f"no rate; the first: {rate.error}",
                )


def _pair(comparison: Comparison, pair: Pair) -> list[str]:
    return [
        _labels(comparison, pair),
        str(pair.prompts),
        _number(pair.reward, sign="+"),
        _number(pair.length, 0, sign="+"),
        *([_number(pair.audit, sign="+")] * (comparison.audit_reward_model is not None)),
        _plain(pair.p),
        _plain(pair.p_corrected),
    ]


def _labels(comparison: Comparison, pair: Pair) -> str:
    return " - ".join(comparison.result(name).method.label for name in (pair.first, pair.second))


def _percent(rate: WinRate) -> str:
    if rate.rate is None:
        return "-"
    scaled = [None if x is None else 100 * x for x in (rate.rate.low, rate.rate.high)]
    return _number(Estimate(100 * rate.rate.value, *scaled), 1) + " %"


def _counts(rate: WinRate) -> str:
    text = f"{rate.wins} / {rate.ties} / {rate.losses}"
    if rate.inconsistent:
        text += f" ({rate.inconsistent} of the ties: orders disagree)"
    return text + (f" ({rate.failed} failed)" if rate.failed else "")


def _curves(console: Console, comparison: Comparison) -> None:
    rows = [
        [
            line.label,
            "-" if line.baseline else str(point.step),
            _number(point.reward),
            _number(point.best),
            _number(point.spread),
            f"{point.length:,.0f}",
            str(point.prompts),
        ]
        for line in comparison.curves
        for point in line.points
    ]
    heads = ["method", "step", "reward of samples", "best so far", "std of samples"]
    _table(console, "Curves", [*heads, "characters", "prompts"], rows)


def _stability(console: Console, comparison: Comparison) -> None:
    rows = [
        [
            entry.label,
            _number(entry.std),
            _number(entry.difference, sign="+"),
            _number(entry.reward),
            str(entry.prompts),
        ]
        for entry in comparison.stability
    ]
    heads = ["final reward of", "std over runs", "less one sample's", "reward", "prompts"]
    _table(console, f"Stability over {len(comparison.seeds)} runs of each prompt", heads, rows)


def _grid(console: Console, comparison: Comparison) -> None:
    depths = sorted({cell.depth for cell in comparison.grid})
    cells = {(cell.width, cell.depth): cell for cell in comparison.grid}
    widths = sorted({cell.width for cell in comparison.grid})
    heads = ["best reward", *(f"depth {depth}" for depth in depths)]
    rows = [[f"width {w}", *(_number(cells[w, d].reward) for d in depths)] for w in widths]
    _table(console, "Grid", heads, rows)
    heads = ["tokens per run", *heads[1:]]
    rows = [[f"width {w}", *(f"{cells[w, d].tokens:,.0f}" for d in depths)] for w in widths]
    _table(console, "", heads, rows)
