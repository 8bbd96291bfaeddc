"""`tpo report`: one HTML file to look at, and to hand on."""

from pathlib import Path

import click

from tpo_graph.cli.options import database_option
from tpo_graph.cli.output import say


@click.command()
@click.argument("targets", metavar="[TARGET]...", nargs=-1)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="The file to write.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=300,
    show_default=True,
    help="Maximum number of trajectories; without a TARGET, of the newest runs.",
)
@click.option(
    "--costs",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Price table (TOML), for costs and FLOPs.",
)
@database_option
def report(
    targets: tuple[str, ...], output: Path, limit: int, costs: Path | None, database: str
) -> None:
    """Write one HTML file with charts, tables and every trajectory.

    TARGET is a run's id or its unique beginning, a batch by its name or its output file, or the
    folder of a comparison or an analysis. Without one: the newest runs of the database.
    """
    from tpo_graph.cli.stopping import same_command
    from tpo_graph.costs import read_costs
    from tpo_graph.report import write_report
    from tpo_graph.store.migrate import existing

    table = None if costs is None else read_costs(costs)
    if not any(Path(target).is_dir() for target in targets):  # a comparison's folder is enough
        existing(database)
    made = write_report(
        targets, output, database=database, limit=limit, costs=table, command=same_command()
    )
    runs = [run for series in made.series for run in series.runs]
    size = output.stat().st_size / 1e6
    say(f"{output}: {len(runs):,} runs, {size:.1f} MB")
    stored = [run for run in runs if run.run_id]
    if left_out := sum(run.details is None for run in stored):
        say(f"{left_out:,} of them without their texts; --limit {len(stored)} takes all of them.")
    elif not targets and len(runs) == limit:
        say(f"These are the newest {limit:,}; --limit N takes more.")
