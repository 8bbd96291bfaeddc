"""A reward model from a Python file of the operator's: `python:rewards.py#score`.

Loading runs the file. Names like this come from options and configuration, never from data.
"""

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from tpo_graph.errors import ConfigurationError
from tpo_graph.rewards.base import RewardModel
from tpo_graph.rewards.function import FunctionReward


def python_reward(path: Path, attribute: str, name: str | None = None) -> RewardModel:
    """The function or reward model that a file calls `attribute`.

    Args:
        path: the file; it may import others of its folder.
        attribute: a function of query and response, a reward model, or a class of one that needs
            no arguments.
        name: of a function in the score cache, when the file and the values that the function
            reads do not say it.

    Raises:
        ConfigurationError: the file cannot be run, or has no such attribute.
    """
    module, digest = run_file(path)
    try:
        given: Any = getattr(module, attribute)
    except AttributeError as error:
        raise ConfigurationError(
            f"{str(path)!r} has no {attribute!r}: write python:{path.name}#NAME for another name"
        ) from error
    if isinstance(given, type):
        try:
            given = cast("type[Any]", given)()
        except Exception as error:
            raise ConfigurationError(
                f"{given.__name__}() in {str(path)!r} failed: {type(error).__name__}: {error}"
            ) from error
    if isinstance(given, RewardModel):
        return given
    if not callable(given):
        raise ConfigurationError(
            f"{attribute!r} in {str(path)!r} is {given!r}: it must be a function of (query, "
            "response), or an object with a name and an async score method"
        )
    model = FunctionReward(cast("Callable[[str, str], float]", given), name)
    if name is None:
        told = model.name.rpartition("@")[2]
        model.name = f"python:{path.name}#{attribute}@{digest}-{told}"
    return model


def run_file(path: Path) -> tuple[ModuleType, str]:
    """The module that a Python file makes when it is run, and the file's digest.

    Raises:
        ConfigurationError: it cannot be read, or running it failed.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"the file {str(path)!r} cannot be read: {error.strerror or error}"
        ) from error
    digest = hashlib.sha256(source).hexdigest()[:12]
    # A name that is the same in every process, so that what the file defines has one name too.
    name = f"tpo_reward_{path.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{str(path)!r} is not a Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigurationError(
            f"running {str(path)!r} failed: {type(error).__name__}: {error}"
        ) from error
    return module, digest
