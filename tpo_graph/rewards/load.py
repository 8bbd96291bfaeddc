"""Names, functions and objects to reward models."""

from collections.abc import Callable
from functools import cache
from typing import Any

from tpo_graph import weights
from tpo_graph.errors import ConfigurationError
from tpo_graph.rewards.base import RewardModel
from tpo_graph.rewards.function import FunctionReward, RewardFunction
from tpo_graph.rewards.local import LocalRewardModel

_SCHEMES: dict[str, Callable[[str], RewardModel]] = {"local": LocalRewardModel}


def as_reward_model(given: str | RewardModel | RewardFunction) -> RewardModel:
    """A reward model from its name, from a function of query and response, or as it is.

    Raises:
        ConfigurationError: it is none of these, or `load_reward_model` refuses the name.
    """
    if isinstance(given, str):
        return load_reward_model(given)
    if not isinstance(given, type):
        if isinstance(given, RewardModel):
            return given
        if callable(given):
            return FunctionReward(given)
    raise ConfigurationError(
        f"not a reward model: {given!r}. Give a name such as 'local:PATH_OR_HUB_ID', a function of "
        "(query, response), or an object with a name and an async score method."
    )


def load_reward_model(name: str) -> RewardModel:
    """The reward model of that name, loaded once per process.

    Args:
        name: "local:PATH_OR_HUB_ID".

    Raises:
        ConfigurationError: no such kind of reward model, or it cannot be loaded.
    """
    scheme, _, source = name.partition(":")
    if scheme not in _SCHEMES or not source:
        known = ", ".join(f"{known}:..." for known in _SCHEMES)
        raise ConfigurationError(f"unknown reward model {name!r}: known are {known}")
    with weights.LOADING:
        return _load(scheme, weights.resolve(source))


@cache
def _load(scheme: str, source: str) -> Any:
    return _SCHEMES[scheme](source)
