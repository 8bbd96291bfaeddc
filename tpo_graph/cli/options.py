"""Command-line options made from `Settings`, so that names, help and bounds are written once.

Which database a command works on is decided here for all of them.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args, get_origin

import click

from tpo_graph.context import BUDGETS, Sampling
from tpo_graph.errors import ConfigurationError
from tpo_graph.models.connection import ROLES, read_options
from tpo_graph.settings import Settings, found_config

if TYPE_CHECKING:
    from tpo_graph.store import Store

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


_SECTIONS = {
    "Models": {"model", "reward_model", "critic", "audit", "audit_fallback", "prompts", "method"}
    | {f"{role}_options" for role in ROLES},
    "Search": {"width", "depth", "criteria", "select", "pick", "stop"},
    "Sampling": {f"{who}{name}" for who in ("", "critic_") for name in Sampling.__annotations__},
    "Early stopping": {"target_reward", "patience", "min_gain", "stop_on_same_pair", *BUDGETS}
    | {"input_price", "cached_price", "output_price"},
    "Storage": {"database_url", "score_cache"},
}
"""What the help of a command puts together; all else comes first."""


class SettingsCommand(click.Command):
    """A command whose help shows the settings of a run in sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See `click.Command.format_options`."""
        shown: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Options", *_SECTIONS)}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx) if isinstance(option, click.Option) else None
            if record is not None:
                of = [title for title, names in _SECTIONS.items() if option.name in names]
                shown[of[0] if of else "Options"].append(record)
        for title, records in shown.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def setting_options(command: F, without: Collection[str] = ()) -> F:
    """Add `--config` and one option per field of `Settings`; values arrive as text or None.

    Args:
        command: gets them.
        without: fields for which it has options of its own.

    `Settings` checks them, so that the same mistake gets the same message everywhere.
    """
    for name, field in reversed(Settings.model_fields.items()):
        if name in without:
            continue
        if get_origin(field.annotation) is dict:
            continue  # what a server's callers may choose: a table of the file
        default = field.default
        flag = f"--{name.replace('_', '-')}"
        if field.annotation is bool:
            switch = f"{flag}/--no-{flag.removeprefix('--')}"
            about = f"{field.description}  [default: {'on' if default else 'off'}]"
            command = click.option(switch, name, default=None, help=about)(command)
            continue
        shown = "" if default is None else f"  [default: {default}]"
        command = click.option(
            "--database" if name == "database_url" else flag,
            name,
            metavar=_metavar(name, field.annotation),
            help=f"{field.description}{shown}",
        )(command)
    return _config(command)


def with_options(options: Sequence[Callable[[F], F]], command: F) -> F:
    """The command with all of the options, in their order."""
    for option in reversed(options):
        command = option(command)
    return command


class Duration(click.ParamType):  # pyright: ignore[reportMissingTypeArgument]
    """Seconds, written as 90s, 30m, 2h, or 0."""

    name = "duration"
    _UNITS: ClassVar = {"s": 1, "m": 60, "h": 3600, "d": 86400}

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds of such a text."""
        match = re.fullmatch(r"(\d{1,6})([smhd]?)", str(value).strip())
        if match is None or (not match[2] and match[1].strip("0")):
            self.fail(f"{value!r} is not a duration: write it as 90s, 30m, 2h or 0", param, ctx)
        return float(int(match[1]) * self._UNITS[match[2] or "s"])


wait_option = click.option(
    "--wait-for-server",
    type=Duration(),
    default="30m",
    show_default=True,
    metavar="DURATION",
    help="Maximum wait for a model server that is restarting or out of quota (90s, 30m, 2h); "
    "0 fails the rows.",
)


def _or_none(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    return None if value == "none" else value


_config = click.option(
    "--config",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    envvar="TPO_CONFIG",
    default=found_config,
    callback=_or_none,
    help='TOML file with these options, for example model = "openai:gpt-4o-mini"; "none" reads '
    "no file.  [default: ./tpo.toml, if there is one]",
)


def database_option(command: F) -> F:
    """Add `--database` and `--config` to a command that works on stored runs.

    The command gets the URL as `database`: of the option, else `TPO_DATABASE_URL`, else the file's,
    else the default: the database that `tpo run` with the same words writes to.

    Raises:
        ConfigurationError: the configuration says "none".
    """

    @wraps(command)
    def with_url(*args: Any, database: str | None, config: str | None, **options: Any) -> Any:
        url = Settings.load({"database_url": database}, config).database_url
        if url is None:
            raise ConfigurationError(
                "this command needs a database, but the configuration says 'none'. "
                "Name one with --database URL."
            )
        return command(*args, database=url, **options)

    default = Settings.model_fields["database_url"].default
    shown = click.option(
        "--database",
        metavar="URL",
        help=f"Where the runs are stored.  [default: that of --config, else {default}]",
    )
    return shown(_config(with_url))  # pyright: ignore[reportReturnType]


def with_store(database: str, work: "Callable[[Store], Awaitable[T]]") -> T:
    """What `work` gives, called with the open store of a database that exists.

    Raises:
        ConfigurationError: there is no database.
        StoreError: it cannot be read.
    """
    from tpo_graph.concurrency.background import run_in_background
    from tpo_graph.store import open_store
    from tpo_graph.store.migrate import existing

    url = existing(database)

    async def go() -> T:
        async with open_store(url) as store:
            return await work(store)

    return run_in_background(go())


def json_option(_context: click.Context, _option: click.Parameter, given: str | None) -> Any:
    """The callback of an option that takes a connection's options as JSON."""
    try:
        return read_options(given)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _metavar(name: str, kind: Any) -> str:
    if name in {"model", "critic", "reward_model", "audit"}:
        return "SPEC"
    if name.endswith("_options"):
        return "JSON"
    strategies = dict.fromkeys(("method", "select", "pick", "stop"), "NAME")
    words = {"prompts": "SET", "database_url": "URL", **strategies}
    kinds = (kind, *get_args(kind))
    number = "NUMBER" if float in kinds else "INTEGER"
    return words.get(name, "TEXT" if str in kinds else number)
