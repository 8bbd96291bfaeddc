"""`tpo benchmark`: prompts of benchmarks, files for the official tools, metrics."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tpo_graph.cli.output import print_json, say
from tpo_graph.files.replaced import replaced

if TYPE_CHECKING:
    from tpo_graph.evaluation.benchmarks import Score

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OUTPUT = click.Path(dir_okay=False, path_type=Path)


@click.group()
def benchmark() -> None:
    """The benchmarks of the paper, or of your own: prompts for `tpo batch`, exports, metrics.

    NAME is one of `tpo benchmark list`, or a TOML file that describes a data set and a scorer of
    your own (docs/benchmarks.md).

    \b
    tpo benchmark prompts math-500 -o prompts.jsonl
    tpo batch prompts.jsonl --output out.jsonl
    tpo benchmark score math-500 out.jsonl
    """


@benchmark.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
def list_(as_json: bool) -> None:
    """What there is: size, data set, metric, licence."""
    from tpo_graph.evaluation.benchmarks import BENCHMARKS, installed

    rows: list[dict[str, Any]] = [
        {
            "name": known.name,
            "title": known.title,
            "prompts": known.size,
            "data set": known.source.dataset,
            "metric": known.metric,
            "needs": list(known.needs),
            "export": f"{' or '.join(known.writers)}: {known.tool}",
            "licence": known.terms,
        }
        for known in [*BENCHMARKS.values(), *installed().values()]
    ]
    if as_json:
        print_json(rows, indent=2)
        return
    for row in rows:
        size = row["prompts"] or ""
        click.echo(f"{row['name']:<13}{size:>4}  {row['data set']} ({row['licence']})")
        needs = f", with {' and '.join(row['needs'])}" if row["needs"] else ""
        click.echo(f"{'':19}metric: {row['metric']}{needs}")
        click.echo(f"{'':19}export: {row['export']}")


@benchmark.command()
@click.argument("name")
@click.option("--file", "-f", type=_FILE, help="A local copy: JSON, JSONL, CSV or Parquet.")
@click.option("--limit", type=click.IntRange(min=1), help="Maximum number of prompts.")
@click.option(
    "--seed",
    type=int,
    help="Sample the prompts at random; HH-RLHF always is, with seed 7 by default.",
)
@click.option("--output", "-o", type=_OUTPUT, required=True, help="JSONL for `tpo batch`.")
def prompts(
    name: str, file: Path | None, limit: int | None, seed: int | None, output: Path
) -> None:
    """Write the prompts of benchmark NAME, each with what its export and its metric need."""
    from tpo_graph.evaluation.benchmarks import benchmark as find
    from tpo_graph.evaluation.benchmarks import load_prompts

    size = find(name).size
    made = load_prompts(name, file=file, limit=limit, seed=seed)
    output.parent.mkdir(parents=True, exist_ok=True)
    with replaced(output) as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in made.rows)
    told = f"{len(made.rows)} of {made.available} prompts in {str(output)!r}"
    if size is not None and len(made.rows) != size:
        told += f"; the paper used {size}"
    say(told)
    for position, why in list(made.skipped.items())[:5]:
        say(f"left out record {position}: {why}")
    if len(made.skipped) > 5:
        say(f"left out {len(made.skipped)} records in all")


@benchmark.command()
@click.argument("name")
@click.argument("answers", metavar="OUT.jsonl", type=_FILE)
@click.option("--generator", required=True, help="Model name to write into the export.")
@click.option("--output", "-o", type=_OUTPUT, required=True, help="The file to write.")
def export(name: str, answers: Path, generator: str, output: Path) -> None:
    """Write OUT.jsonl, an output of `tpo batch`, as the official tool of NAME reads it."""
    from tpo_graph.evaluation.benchmarks import export as write
    from tpo_graph.evaluation.benchmarks import read_outcomes

    outcomes = read_outcomes(answers)
    write(name, outcomes, output, generator)
    told = f"{len(outcomes.answers)} answers in {str(output)!r}"
    if missing := len(outcomes.failed) + len(outcomes.unfinished):
        told += (
            f"; {len(outcomes.failed)} failed and {len(outcomes.unfinished)} unfinished rows are "
            f"not: the tool will miss {missing}"
        )
    say(told)


@benchmark.command()
@click.argument("name")
@click.argument("answers", metavar="OUT.jsonl", type=_FILE)
@click.option("--judge", metavar="SPEC", help="Chat model, or wildguard:URL#MODEL for xstest.")
@click.option("--against", type=_FILE, help="Other answers to the same prompts, for a win rate.")
@click.option(
    "--reward-model",
    metavar="SPEC",
    help="Scores the answers of hh-rlhf and beavertails instead of the rewards that TPO optimized.",
)
@click.option("--json", "as_json", is_flag=True, help="Print as JSON, with every error.")
def score(
    name: str,
    answers: Path,
    judge: str | None,
    against: Path | None,
    reward_model: str | None,
    as_json: bool,
) -> None:
    """Score OUT.jsonl, an output of `tpo batch`, by the metric of benchmark NAME.

    Rows that failed, are not finished, or could not be scored are counted and shown.
    """
    from tpo_graph.evaluation.benchmarks import (
        Scoring,
        read_other_answers,
        read_outcomes,
    )
    from tpo_graph.evaluation.benchmarks import score as measure

    others = None if against is None else read_other_answers(against)
    outcomes = read_outcomes(answers)
    scoring = Scoring(judge=judge, reward_model=reward_model, against=others)
    result = measure(name, outcomes, scoring)
    if as_json:
        print_json({"benchmark": name, **asdict(result)}, indent=2)
    else:
        _print(name, result)


def _print(name: str, result: "Score") -> None:
    from rich.table import Table
    from rich.text import Text

    from tpo_graph.cli.display import Console

    table = Table(name, "rows", result.metric, "95% interval", box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    lines = [("all", result.scored, result.mean)]
    for title, parts in result.parts.items():
        lines += [(f"  {title} {value}", part.rows, part.mean) for value, part in parts.items()]
    for title, rows, mean in lines:
        # As Text, never as markup: data sets may contain anything.
        cells = (title, str(rows), *_numbers(mean, result.share))
        table.add_row(*(Text(cell) for cell in cells))
    console = Console(highlight=False, width=None if Console().is_terminal else 160)
    console.print(table)
    told = [
        f"{result.rows} rows: {result.scored} scored, {len(result.without_score)} without a score, "
        f"{len(result.failed)} failed, {len(result.unfinished)} unfinished"
    ]
    if result.mean_if_wrong is not None and result.scored < result.rows:
        told.append(f"{100 * result.mean_if_wrong:.1f}% if all without a score count as wrong")
    if result.length is not None:
        tokens = "" if result.tokens is None else f", {result.tokens:.0f} tokens spent"
        told.append(f"per answer: {result.length:.0f} characters{tokens}")
    told += [f"{what}: {value}" for what, value in result.notes.items()]
    for row, why in list({**result.failed, **result.without_score}.items())[:3]:
        told.append(f"{row}: {why}")
    for line in told:
        console.print(line, markup=False, soft_wrap=True)


def _numbers(mean: Any, share: bool) -> tuple[str, str]:
    """A mean and its interval, in percent for shares."""
    if mean is None:
        return "-", "-"

    def shown(value: float) -> str:
        return f"{100 * value:.1f}%" if share else f"{value:.3f}"

    interval = "-" if mean.low is None else f"[{shown(mean.low)}, {shown(mean.high)}]"
    return shown(mean.value), interval
