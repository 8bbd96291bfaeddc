"""`tpo db`: the database's schema. Every command migrates what it opens; this does only that."""

import click


@click.group()
def db() -> None:
    """Migrate a database, or say which version it is at."""


_database = click.option(
    "--database",
    metavar="URL",
    envvar="TPO_DATABASE_URL",
    default="sqlite:///tpo.db",
    show_default=True,
    help="The database.",
)


@db.command()
@_database
def upgrade(database: str) -> None:
    """Migrate to the newest revision, creating the tables in a blank database."""
    from tpo_graph.store.migrate import database_revision, upgrade_database

    upgrade_database(database)
    click.echo(database_revision(database))


@db.command()
@_database
def current(database: str) -> None:
    """Print the revision of the database ("blank" without our tables); changes nothing."""
    from tpo_graph.store.migrate import database_revision

    click.echo(database_revision(database) or "blank")
