"""`tpo view`: a database's runs in a browser, while they run."""

from importlib import import_module
from pathlib import Path

import click

from tpo_graph.cli.options import database_option
from tpo_graph.extras import extra


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8101,
    show_default=True,
    help="Port; 0 takes any free one.",
)
@click.option(
    "--host", metavar="ADDRESS", default="127.0.0.1", show_default=True,
    help="Address to listen on; if other machines can reach it, TPO_VIEW_API_KEY must be set.",
)  # fmt: skip
@click.option(
    "--costs",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Price table (TOML), for costs.",
)
@click.option("--read-only", is_flag=True, help="Let nobody set labels and notes.")
@database_option
def view(port: int, host: str, costs: Path | None, read_only: bool, database: str) -> None:
    """Show stored runs in a browser, also while they run.

    Reads the database and writes nothing but the labels and notes that you set on a run's page;
    needs no model. Runs of every process that writes to
    the database are there: `tpo run`, `tpo batch`, agents, `tpo serve` (which shows these pages
    itself).
    """
    with extra("serve", "tpo view"):
        for name in ("jinja2", "sse_starlette", "starlette", "uvicorn"):
            import_module(name)

    import os

    from pydantic import SecretStr

    from tpo_graph.costs import read_costs
    from tpo_graph.models.connection import clean_key
    from tpo_graph.store.reading import open_to_read
    from tpo_graph.store.urls import make_engine, parse_url
    from tpo_graph.view.access import address, listening
    from tpo_graph.view.server import application, serve

    table = None if costs is None else read_costs(costs)
    key = clean_key(os.environ.get("TPO_VIEW_API_KEY", ""), "TPO_VIEW_API_KEY")
    with open_to_read(database) as opened:
        writing = None if read_only else make_engine(parse_url(database))
        app = application(opened, host, SecretStr(key) if key else None, table, writing)
        taken = listening(host, port)
        click.echo(address(taken))
        serve(app, taken)
