"""Command-line options made from `Settings`, so that names, help and bounds are written once."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from tpo_graph.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


def setting_options(command: F) -> F:
    """Add `--config` and one option per field of `Settings`; values arrive as text or None.

    `Settings` checks them, so that the same mistake gets the same message everywhere.
    """
    for name, field in reversed(Settings.model_fields.items()):
        default = field.default
        flag = f"--{name.replace('_', '-')}"
        if field.annotation is bool:
            switch = f"{flag}/--no-{flag.removeprefix('--')}"
            command = click.option(switch, name, default=None, help=field.description)(command)
            continue
        shown = "" if default is None else f"  [default: {default}]"
        command = click.option(
            "--database" if name == "database_url" else flag,
            name,
            metavar=_metavar(name),
            help=f"{field.description}{shown}",
        )(command)
    return click.option(
        "--config",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        envvar="TPO_CONFIG",
        help='TOML file with the same names, for example model = "openai:gpt-5-mini".',
    )(command)


def _metavar(name: str) -> str:
    if name in {"model", "critic", "reward_model", "audit"}:
        return "SPEC"
    words = {"prompts": "SET", "criteria": "TEXT", "database_url": "URL"}
    return words.get(name, "NUMBER")
