"""`tpo batch`: a file of prompts in, a file of answers out; run again, it resumes."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tpo_graph.cli.engines import engine_options, ray_engine, take_cluster
from tpo_graph.cli.options import SettingsCommand, setting_options, wait_option
from tpo_graph.cli.output import say
from tpo_graph.errors import ConfigurationError, ServerAwayError
from tpo_graph.settings import Settings

if TYPE_CHECKING:
    from tpo_graph.batch.job import BatchProgress


@click.command(cls=SettingsCommand)
@click.argument("source", metavar="IN")
@click.option(
    "--output",
    "-o",
    required=True,
    type=click.Path(path_type=Path),
    help="File to write: .jsonl, .json, .csv or .parquet.",
)
@click.option("--name", help="Name of the batch in the database.  [default: the output's path]")
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Also retry rows that failed; other limits may be given for them, such as --max-tokens.",
)
@click.option(
    "--fresh", is_flag=True, help="Start over, ignoring earlier progress under this name."
)
@click.option("--limit", type=click.IntRange(min=1), help="Use only the first N rows.")
@click.option(
    "--max-in-flight",
    type=click.IntRange(min=1),
    help="Maximum concurrent runs.  [default: tuned automatically]",
)
@wait_option
@click.option(
    "--costs",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file with prices and sizes of the models.",
)
@click.option(
    "--log-every",
    type=click.FloatRange(min=0),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Seconds between lines of progress if there is no terminal.",
)
@engine_options
@setting_options
def batch(
    source: str,
    output: Path,
    name: str | None,
    retry_failed: bool,
    fresh: bool,
    limit: int | None,
    max_in_flight: int | None,
    wait_for_server: float,
    costs: Path | None,
    log_every: float,
    config: str | None,
    **options: Any,
) -> None:
    """Answer every prompt of IN and write the answers to OUTPUT, in the same order.

    IN is a .jsonl, .json, .csv or .parquet file, or a data set of the Hugging Face hub
    (OWNER/NAME:SPLIT). A row has "prompt" or "messages", and may have "id", "system", "depth",
    "width" and "criteria" of its own; other columns are kept.

    Every finished step is in the database. Run the same command again to resume. New rows in IN are
    added; changed settings are refused. A failed row is recorded in its "error" column and does not
    stop the others; the exit code is then 1. While a model server is away the batch waits.
    """
    cluster = take_cluster(options)
    settings = Settings.load(options, config)
    model, reward_model = settings.policy_name(), settings.reward_model_name()
    database = settings.database_url
    if database is None:
        raise ConfigurationError("a batch must be kept in a database, not in 'none'")

    # Past the cheap mistakes: only now the heavy imports.
    from langgraph.errors import GraphDrained

    from tpo_graph.batch.job import run_batch
    from tpo_graph.batch.output import prepare_output, write_output
    from tpo_graph.cli.batch_progress import BatchDisplay
    from tpo_graph.cli.stopping import same_command, stoppable
    from tpo_graph.costs import read_costs
    from tpo_graph.rows import read_rows

    name = name or str(output.resolve())
    rows = read_rows(source)
    prepare_output(output, name=name, database=database, source=source, fresh=fresh)
    table = None if costs is None else read_costs(costs)
    loaded = (model, reward_model, settings.critic)
    with stoppable(same_command(), settings.grace) as control:
        with BatchDisplay(table, settings, log_every, loaded) as display:
            progress = run_batch(
                islice(rows, limit),
                name=name,
                engine=cluster and ray_engine(cluster, settings, max_in_flight, wait_for_server),
                max_in_flight=max_in_flight,
                wait_for_server=wait_for_server,
                retry_failed=retry_failed,
                fresh=fresh,
                source=source,
                on_progress=display.show,
                control=control,
                **settings.inputs(),
            )
        display.end(progress)
        write_output(output, name=name, database=database)
        say(f"{progress.done} of {progress.total} rows answered: {output}")
        if progress.unfinished and control.drain_requested and progress.away is None:
            raise GraphDrained
    _end(progress)


def _end(progress: "BatchProgress") -> None:
    """Say what is left to do, if anything; the exit code is then 1."""
    if progress.away is not None:
        raise ServerAwayError(
            f"{progress.unfinished} rows are still to be run. {progress.away} Run the same command "
            "again to resume. (--wait-for-server: how long to wait; 0 fails the rows instead.)"
        )
    if progress.unfinished:
        say(
            f"{progress.unfinished} rows are being worked on by other processes. Run the same "
            "command when those have ended.",
        )
    if progress.failed:
        some = progress.answered_with_error
        answered = f", {some} of them with the best response from before the error" if some else ""
        say(
            f'{progress.failed} rows failed{answered}; "error" in the output says why. Fix them '
            "in the input, or retry with --retry-failed",
        )
    if progress.unfinished or progress.failed:
        raise SystemExit(1)
