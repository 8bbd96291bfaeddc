"""The tables of a comparison, for the terminal and for the page."""

from collections.abc import Callable

from tpo_graph.evaluation.results import Cell, Comparison, Cost, MethodResult, Pair, Scorer, WinRate
from tpo_graph.report.figures import Table
from tpo_graph.report.wording import between, number, percent, probability, whole

CAPTION = "Means over prompts with 95% intervals: Student's t; Wilson for rates."
SCORERS: dict[Scorer, str] = {
    "reward": "by reward",
    "audit": "by the audit's reward",
    "judge": "by the judge",
}


def methods(comparison: Comparison) -> Table:
    """A row per method, means per run; what no method has is left out."""

    def cost(say: Callable[[Cost], str]) -> Callable[[MethodResult], str]:
        return lambda result: "-" if result.cost is None else say(result.cost)

    def about(say: Callable[[Cost], str]) -> Callable[[MethodResult], str]:
        return cost(lambda spent: "~" * spent.estimated + say(spent))

    columns: dict[str, Callable[[MethodResult], str]] = {
        "method": lambda result: result.method.label,
        "reward": lambda result: between(result.reward),
        "gain over first": lambda result: between(result.gain, signed=True),
        "audit": lambda result: between(result.audit),
        "characters": lambda result: between(result.length, count=True),
        "samples": cost(lambda spent: _decimal(spent.samples, 1)),
        "requests": about(lambda spent: _decimal(spent.requests, 1)),
        "tokens": about(lambda spent: whole(spent.tokens)),
        "cached": about(lambda spent: whole(spent.cached_tokens)),
        "seconds": about(lambda spent: _decimal(spent.seconds, 1)),
        "PFLOPs (paper)": cost(lambda spent: _decimal(spent.pflops, 2)),
        "PFLOPs (tokens)": cost(lambda spent: _decimal(spent.measured_pflops, 4)),
        f"cost {comparison.currency}".strip(): cost(lambda spent: _decimal(spent.money, 5)),
        "runs": lambda result: whole(result.finished) + _failed(result.failed),
    }
    rows = {name: [say(result) for result in comparison.methods] for name, say in columns.items()}
    known = {name: cells for name, cells in rows.items() if set(cells) != {"-"}}
    return Table(list(known), [list(row) for row in zip(*known.values(), strict=True)])


def seeds(comparison: Comparison) -> Table:
    """The mean reward of each method under each seed."""
    rows = [
        [result.method.label, *(number(seed.reward) for seed in result.seeds)]
        for result in comparison.methods
    ]
    return Table(["mean reward", *(f"seed {seed}" for seed in comparison.seeds)], rows)


def pairs(comparison: Comparison) -> Table:
    """The differences of methods, on the prompts and seeds that both answered."""
    audited = comparison.audit_reward_model is not None
    rows = [
        [
            *(pair_label(comparison, pair), whole(pair.prompts)),
            between(pair.reward, signed=True),
            *(probability(pair.p), probability(pair.p_corrected)),
            between(pair.length, signed=True, count=True),
            *([between(pair.audit, signed=True)] * audited),
        ]
        for pair in comparison.pairs
    ]
    columns = ["first – second", "prompts", "reward difference", "p", "p (Holm)", "characters"]
    return Table([*columns, *(["audit difference"] * audited)], rows)


def win_rates(comparison: Comparison) -> Table:
    """How often the first of a pair beat the second, by each scorer."""
    rows = [
        [pair_label(comparison, pair), SCORERS[rate.by], percent(rate.rate), _counts(rate)]
        for pair in comparison.pairs
        for rate in pair.win_rates
    ]
    return Table(["first – second", "", "win rate", "wins / ties / losses"], rows, texts=2)


def curves(comparison: Comparison) -> Table:
    """Each method step by step."""
    rows = [
        [
            *(line.label, "-" if line.baseline else str(point.step)),
            *(between(each) for each in (point.reward, point.best, point.spread)),
            *(whole(point.length), whole(point.prompts)),
        ]
        for line in comparison.curves
        for point in line.points
    ]
    heads = ["method", "step", "reward of samples", "best so far", "std of samples"]
    return Table([*heads, "characters", "prompts"], rows)


def stability(comparison: Comparison) -> Table:
    """The spread of a prompt's final reward over its runs."""
    rows = [
        [
            *(each.label, whole(each.runs), whole(each.prompts), between(each.std)),
            *(between(each.difference, signed=True), between(each.reward)),
        ]
        for each in comparison.stability
    ]
    heads = ["method", "runs", "prompts", "standard deviation", "minus the first row's", "reward"]
    return Table(heads, rows)


def grids(comparison: Comparison) -> dict[str, Table]:
    """The best reward, and what it took, at every width and depth."""
    cells = {(cell.width, cell.depth): cell for cell in comparison.grid}
    widths, depths = (sorted({key[place] for key in cells}) for place in (0, 1))

    def of(say: Callable[[Cell], str]) -> Table:
        rows = [[f"width {w}", *(say(cells[w, d]) for d in depths)] for w in widths]
        return Table(["", *(f"depth {depth}" for depth in depths)], rows)

    return {
        "Best reward": of(lambda cell: between(cell.reward)),
        "Tokens per run": of(lambda cell: whole(cell.tokens)),
    }


def pair_label(comparison: Comparison, pair: Pair) -> str:
    """Two methods by their labels."""
    labels = {result.method.name: result.method.label for result in comparison.methods}
    return " – ".join(labels.get(name, name) for name in (pair.first, pair.second))


def _decimal(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:,.{decimals}f}"


def _counts(rate: WinRate) -> str:
    text = f"{rate.wins} / {rate.ties} / {rate.losses}"
    if rate.inconsistent:
        text += f" ({rate.inconsistent} of the ties: orders disagree)"
    return text + _failed(rate.failed)


def _failed(failed: int) -> str:
    return f" ({failed:,} failed)" if failed else ""
