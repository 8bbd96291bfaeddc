"""`tpo run`: one query in, the best answer out."""

import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import click

from tpo_graph.cli.options import SettingsCommand, setting_options
from tpo_graph.cli.output import print_answer, print_json
from tpo_graph.settings import Settings


@click.command(cls=SettingsCommand)
@click.argument("query", required=False)
@click.option(
    "--file",
    "-f",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read the query from a UTF-8 text file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
@click.option(
    "--trajectory", is_flag=True, help="Also show the pair, loss and gradient of each iteration."
)
@setting_options
def run(
    query: str | None,
    file: Path | None,
    as_json: bool,
    trajectory: bool,
    config: str | None,
    **options: Any,
) -> None:
    """Answer QUERY ("-" reads it from standard input) and print the best answer.

    Progress and a table of rewards go to standard error. If a model fails after the first samples
    were scored, the best answer so far is printed all the same; the exit code is then 1.
    """
    settings = Settings.load(options, config)
    text = _query(query, file)
    model, reward_model = settings.policy_name(), settings.reward_model_name()

    # Past the cheap mistakes: only now the heavy imports.
    from tpo_graph.cli.display import (
        Progress,
        end_if_failed,
        print_iterations,
        print_trajectory,
    )
    from tpo_graph.cli.stopping import resume_command, stoppable
    from tpo_graph.session.run import optimize

    run_id = str(uuid4())
    specs = {"model": model, "reward_model": reward_model, "critic": settings.critic}
    again = resume_command(run_id, settings.database_url, **specs)
    with (
        stoppable(again, settings.grace) as control,
        Progress(settings.depth, model, reward_model, settings.critic) as progress,
    ):
        result = optimize(
            text,
            on_event=progress.show,
            control=control,
            run_id=run_id,
            **settings.inputs(),
        )
    if as_json:
        print_json(result.to_dict(), indent=2)
    else:
        if trajectory:
            print_trajectory(result)
        print_answer(result.response)
        print_iterations(result)
    end_if_failed(result, again)


def _query(query: str | None, file: Path | None) -> str:
    if query is not None and file is not None:
        raise click.UsageError(f"give a query or --file, not both: {query!r} and {str(file)!r}")
    if file is not None:
        text = _decode(file.read_bytes(), f"file {str(file)!r}")
    elif query == "-" or (query is None and not sys.stdin.isatty()):
        text = _decode(sys.stdin.buffer.read(), "standard input")
    elif query is None:
        raise click.UsageError('no query: tpo run "your question", --file FILE, or - for stdin')
    else:
        text = query
    if not text.strip():
        raise click.UsageError(f"the query is empty: {text[:40]!r}")
    return text


def _decode(data: bytes, what: str) -> str:
    try:
        return data.decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as e:
        raise click.UsageError(f"{what} is not UTF-8 text: {e}") from e
