"""Where a batch runs: in this process, or with `--engine ray` on a cluster."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tpo_graph.cli.options import with_options
from tpo_graph.errors import ConfigurationError
from tpo_graph.settings import Settings

if TYPE_CHECKING:
    from tpo_graph.batch.engine import Engine
    from tpo_graph.batch.ray_cluster import Cluster

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="What runs the rows: this process, or a Ray cluster (docs/scale.md).",
    ),
    click.option(
        "--ray-address",
        metavar="ADDRESS",
        help="Address of the cluster's head node.  [default: RAY_ADDRESS, one on this machine, or "
        "a new one]",
    ),
    click.option(
        "--ray-workers",
        type=click.IntRange(min=1),
        help="Number of policy workers.  [default: one per node]",
    ),
    click.option(
        "--ray-env",
        multiple=True,
        metavar="NAME",
        help="Environment variable to pass to the nodes, such as OPENAI_API_KEY; repeatable.",
    ),
    click.option(
        "--reward-actors",
        type=click.IntRange(min=1),
        help="Number of reward model copies.  [default: 1]",
    ),
    click.option(
        "--reward-gpus",
        type=click.FloatRange(min=0),
        help="GPUs per reward model, for example 0.5.  [default: 0]",
    ),
)
_OF_RAY = {
    "ray_address": "address",
    "ray_workers": "workers",
    "ray_env": "environment",
    "reward_actors": "reward_actors",
    "reward_gpus": "reward_gpus",
}


def engine_options(command: F) -> F:
    """Add `--engine` and what belongs to Ray; `take_cluster` reads them."""
    return with_options(_OPTIONS, command)


def take_cluster(options: dict[str, Any]) -> "Cluster | None":
    """Take the engine's options out of a command's: the cluster they name, None for this process.

    Raises:
        ConfigurationError: options of Ray without `--engine ray`, or a variable that is not set.
    """
    engine = options.pop("engine")
    named = {name: options.pop(name) for name in _OF_RAY}
    given = {name: value for name, value in named.items() if value not in (None, ())}
    if engine == "ray":
        from tpo_graph.batch.ray_cluster import Cluster

        return Cluster(**{_OF_RAY[name]: value for name, value in given.items()})
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigurationError(f"without --engine ray there is no use for {flags}: add it")
    return None


def ray_engine(
    cluster: "Cluster", settings: Settings, max_in_flight: int | None, wait_for_server: float
) -> "Engine":
    """The engine on that cluster, with the models and the database of the settings.

    Raises:
        ConfigurationError: a name or a number is wrong.
    """
    from tpo_graph.batch.ray_engine import RayEngine

    inputs = settings.inputs()
    return RayEngine(
        inputs.pop("database"),
        max_in_flight=max_in_flight,
        wait_for_server=wait_for_server,
        cluster=cluster,
        **inputs,
    )
