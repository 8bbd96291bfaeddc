"""Names, functions and objects to reward models.

Names come from the caller, the context or the command line; keys of servers from the environment
(VLLM_API_KEY, SGLANG_API_KEY, and those of a judge's provider).
"""

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tpo_graph import weights
from tpo_graph.anchoring import anchored
from tpo_graph.errors import ConfigurationError
from tpo_graph.models.connection import Connected, options_of
from tpo_graph.rewards.base import RewardModel
from tpo_graph.rewards.function import FunctionReward, RewardFunction
from tpo_graph.rewards.local import LocalRewardModel


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
        name: "local:PATH_OR_HUB_ID"; "vllm:URL#MODEL" or "sglang:URL#MODEL", where the URL may end
            with "?tokenizer=PATH_OR_HUB_ID"; "judge:PROVIDER:MODEL" or "judge:FILE.toml";
            "ensemble:FILE.toml"; "length-penalty:FILE.toml".

    Raises:
        ConfigurationError: no such kind of reward model, or it cannot be loaded.
    """
    scheme, _, source = name.partition(":")
    if scheme not in _SCHEMES or not source:
        known = ", ".join(f"{known}:..." for known in _SCHEMES)
        shown = name[:200] if "@" not in name else f"{scheme}:..."  # a URL may hold a password
        raise ConfigurationError(f"unknown reward model {shown!r}: known are {known}")
    options = options_of(name)
    if options and scheme not in ("vllm", "sglang", "judge"):
        raise ConfigurationError(
            f"{sorted(options)!r} given with a reward model of kind {scheme!r}, which is reached "
            "over no connection of its own: leave them out."
        )
    with weights.LOADING:
        if scheme == "local":
            return _load(scheme, weights.resolve(source))
        if options:
            return _SCHEMES[scheme](Connected(source, options))
        # Keys, base URLs and files decide too: what they were is part of the key.
        return _load(scheme, source, frozenset(os.environ.items()), _content(source))


@cache
def _load(scheme: str, source: str, *_decides: object) -> Any:
    return _SCHEMES[scheme](source)


def _vllm(source: str) -> RewardModel:
    from tpo_graph.rewards.served import endpoint_options, parse_served
    from tpo_graph.rewards.vllm import VLLMRewardModel

    served = parse_served(source, "vllm")
    options = endpoint_options(source, served.url, "VLLM_API_KEY")
    return VLLMRewardModel(model=served.model, tokenizer=served.tokenizer, **options)


def _sglang(source: str) -> RewardModel:
    from tpo_graph.rewards.served import endpoint_options, parse_served
    from tpo_graph.rewards.sglang import SGLangRewardModel

    served = parse_served(source, "sglang")
    options = endpoint_options(source, served.url, "SGLANG_API_KEY")
    return SGLangRewardModel(model=served.model, tokenizer=served.tokenizer, **options)


def _judge(source: str) -> RewardModel:
    from tpo_graph.rewards.judge import JudgeRewardModel

    if source.endswith(".toml"):
        return JudgeRewardModel.from_file(Path(source).expanduser(), options_of(source))
    return JudgeRewardModel(source)


def _ensemble(source: str) -> RewardModel:
    from tpo_graph.rewards.ensemble import EnsembleRewardModel

    with _reading(source) as path:
        return EnsembleRewardModel.from_file(path, _part)


def _length_penalty(source: str) -> RewardModel:
    from tpo_graph.rewards.length_penalty import LengthPenalty

    with _reading(source) as path:
        return LengthPenalty.from_file(path, _part)


def _part(name: str, folder: Path) -> RewardModel:
    return load_reward_model(anchored(name, folder))


_open_files: list[Path] = []
"""Files that name other reward models and are being read, each by the one before; see `LOADING`."""


@contextmanager
def _reading(source: str) -> Generator[Path]:
    path = Path(source).expanduser()
    file = path.resolve()
    if file in _open_files:
        chain = " -> ".join(repr(str(one)) for one in (*_open_files, file))
        raise ConfigurationError(f"a reward model cannot be part of itself: {chain}")
    _open_files.append(file)
    try:
        yield path
    finally:
        _open_files.pop()


_SCHEMES: Mapping[str, Callable[[str], RewardModel]] = MappingProxyType(
    {
        "local": LocalRewardModel,
        "vllm": _vllm,
        "sglang": _sglang,
        "judge": _judge,
        "ensemble": _ensemble,
        "length-penalty": _length_penalty,
    }
)


def _content(source: str) -> str | None:
    try:
        return Path(source).expanduser().read_text() if source.endswith(".toml") else None
    except (OSError, UnicodeDecodeError):  # whoever reads it says what is wrong
        return None
