"""How a comparison looks on standard output: its tables, and what one must know to read them."""

from rich.table import Table as RichTable
from rich.text import Text

from tpo_graph.cli.display import Console, for_tables
from tpo_graph.evaluation.compare import told_apart
from tpo_graph.evaluation.results import Comparison
from tpo_graph.report import comparison_tables as tables
from tpo_graph.report.figures import Table


def print_comparison(comparison: Comparison) -> None:
    """The tables that this kind of comparison has, then the notes."""
    console = for_tables()
    seeds = f"{len(comparison.seeds)} seed{'s' * (len(comparison.seeds) != 1)}"
    _say(
        console,
        f"{comparison.prompts} prompts, {seeds}; policy {comparison.model}, reward model "
        f"{comparison.reward_model}",
    )
    _say(console, tables.CAPTION)
    if comparison.budget is not None:
        _say(console, f"Best-of-n is made equal in {comparison.budget}.")
    for title, table in _tables(comparison).items():
        _print(console, title, table)
    for sentence in [*told_apart(comparison), *_failed_verdicts(comparison)]:
        _say(console, sentence)
    for note in comparison.notes:
        _say(console, f"Note: {note}")


def _tables(comparison: Comparison) -> dict[str, Table]:
    found = tables.grids(comparison) if comparison.grid else {}
    if comparison.stability:
        title = f"Stability over {len(comparison.seeds)} runs of each prompt"
        found[title] = tables.stability(comparison)
    if comparison.curves:
        found["Curves"] = tables.curves(comparison)
    found["Methods, per run"] = tables.methods(comparison)
    if len(comparison.seeds) > 1:
        found["By seed"] = tables.seeds(comparison)
    if comparison.pairs:
        found["Pairs, on the prompts and seeds that both answered"] = tables.pairs(comparison)
    if any(pair.win_rates for pair in comparison.pairs):
        found["Win rates"] = tables.win_rates(comparison)
    return found


def _failed_verdicts(comparison: Comparison) -> list[str]:
    return [
        f"Note: {tables.pair_label(comparison, pair)}: {rate.failed} verdicts "
        f"failed and are in no rate; the first: {rate.error}"
        for pair in comparison.pairs
        for rate in pair.win_rates
        if rate.failed
    ]


def _say(console: Console, text: str) -> None:
    console.print(Text(text), soft_wrap=True)


def _print(console: Console, title: str, content: Table) -> None:
    table = RichTable(box=None, pad_edge=False, title=title, title_justify="left")
    for place, head in enumerate(content.columns):
        table.add_column(head, justify="left" if place < content.texts else "right")
    for row in content.rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print()
    console.print(table)
