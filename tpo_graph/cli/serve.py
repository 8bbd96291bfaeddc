"""`tpo serve`: an OpenAI-compatible endpoint that answers with the best response of a run."""

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeVar

import click

from tpo_graph.cli.logs import show_logs
from tpo_graph.cli.options import SettingsCommand, setting_options
from tpo_graph.extras import extra
from tpo_graph.serve.options import ServeOptions
from tpo_graph.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


def _server_options(command: F) -> F:
    for name, field in reversed(ServeOptions.model_fields.items()):
        flag = f"--{name.replace('_', '-')}"
        text = field.description
        if field.annotation is bool:
            command = click.option(flag, name, is_flag=True, default=None, help=text)(command)
            continue
        shown = "" if field.default is None else f"  [default: {field.default}]"
        metavar = {"host": "ADDRESS", "api_key": "KEY"}.get(name, "NUMBER")
        command = click.option(flag, name, metavar=metavar, help=f"{text}{shown}")(command)
    return command


@click.command(cls=SettingsCommand)
@_server_options
@setting_options
def serve(config: str | None, **given: Any) -> None:
    """Answer OpenAI's clients with TPO: /v1/chat/completions, /v1/responses.

    The options of a run are the defaults of every request. Options of the server can also stand in
    the environment (TPO_SERVE_PORT=8100) or in the table [serve] of the file given with --config.
    """
    own = {name: given.pop(name) for name in ServeOptions.model_fields}
    options = ServeOptions.load(own, config)
    settings = Settings.load(given, config)
    settings.policy_name()
    settings.reward_model_name()
    with extra("serve", "tpo serve"):
        for name in ("prometheus_client", "sse_starlette", "starlette", "uvicorn"):
            import_module(name)

    from tpo_graph.serve.server import run_server

    if not logging.getLogger("tpo_graph").handlers:  # unless --log-level said how
        show_logs("warning", options.log_json, line="%(message)s")
    logging.getLogger("tpo_graph.serve").setLevel(logging.INFO)
    run_server(settings, options)
