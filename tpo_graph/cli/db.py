"""`tpo db`: the database's schema. Every command migrates what it opens; this does only that."""

import click

from tpo_graph.cli.options import database_option


@click.group()
def db() -> None:
    """Migrate a database, or say which version it is at."""


@db.command()
@database_option
def upgrade(database: str) -> None:
    """Migrate to the newest revision, creating the tables in a blank database."""
    from tpo_graph.store.databases import prepare_database
    from tpo_graph.store.migrate import database_revision

    prepare_database(database)
    click.echo(database_revision(database))


@db.command()
@database_option
def current(database: str) -> None:
    """Print the revision of the database ("blank" without our tables); changes nothing."""
    from tpo_graph.store.migrate import database_revision

    click.echo(database_revision(database) or "blank")
