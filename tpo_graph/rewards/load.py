"""Names, functions and objects to reward models.

Names come from the caller, the context or the command line; keys of servers from the environment
(VLLM_API_KEY, SGLANG_API_KEY, and those of a judge's provider).
"""

import os
import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import parse_qsl

from tpo_graph.errors import ConfigurationError
from tpo_graph.local import weights
from tpo_graph.local.reward_model import LocalRewardModel
from tpo_graph.models.connection import Connected, options_of
from tpo_graph.rewards.base import RewardModel
from tpo_graph.rewards.command import CommandReward
from tpo_graph.rewards.ensemble import EnsembleRewardModel
from tpo_graph.rewards.forms import FORMS, anchored, meant
from tpo_graph.rewards.function import FunctionReward, RewardFunction
from tpo_graph.rewards.json_schema import JsonSchemaReward
from tpo_graph.rewards.length_penalty import LengthPenalty
from tpo_graph.rewards.python_file import python_reward
from tpo_graph.rewards.regex import RegexReward
from tpo_graph.rewards.self_consistency import SelfConsistency
from tpo_graph.rewards.unit_tests import UnitTestReward


def as_reward_model(given: str | RewardModel | RewardFunction) -> RewardModel:
    """A reward model from its name, from a function of query and response, or as it is.

    Raises:
        ConfigurationError: it is none of these, or `load_reward_model` refuses the name.
    """
    if isinstance(given, str):
        return load_reward_model(given)
    if not isinstance(given, type):
        if isinstance(given, RewardModel):
            _need_name(given)
            return given
        if callable(given):
            return FunctionReward(given)
    made = " It is a class: give an object of it." if isinstance(cast(object, given), type) else ""
    raise ConfigurationError(
        f"not a reward model: {given!r}. Give a name such as 'local:PATH_OR_HUB_ID', a function of "
        f"(query, response), or an object with a name and an async score method.{made}"
    )


def _need_name(model: RewardModel) -> None:
    name = cast(object, model.name)
    if not isinstance(name, str) or not name:
        raise ConfigurationError(
            f"the reward model {model!r:.200} has the name {name!r}, and needs one that is text, "
            "such as 'brevity-1': stored scores are kept by it."
        )


def load_reward_model(name: str) -> RewardModel:
    """The reward model of that name, loaded once per process.

    Args:
        name: one of the forms in `rewards.forms`: "local:PATH_OR_HUB_ID"; "vllm:URL#MODEL" or
            "sglang:URL#MODEL"; "judge:PROVIDER:MODEL" or "judge:FILE.toml";
            "python:FILE.py#NAME"; "command:PROGRAM ARGUMENTS"; "tests:FILE.py";
            "json-schema:FILE.json"; "regex:FILE.toml"; "self-consistency"; "ensemble:FILE.toml";
            "length-penalty:FILE.toml". Options follow a "?", before the "#": "tokenizer" (vllm,
            sglang), "rubric" (judge), "timeout" (command, tests), "name" (python, command), "env"
            (command), "pattern" (self-consistency).

    Raises:
        ConfigurationError: no such kind of reward model, or it cannot be loaded.
    """
    scheme, _, source = name.partition(":")
    if scheme.startswith("self-consistency?"):
        scheme, source = "self-consistency", name.removeprefix("self-consistency")
    if scheme not in SCHEMES or (not source and FORMS[scheme].write):
        # A URL may hold a password.
        shown = name[:200] if "@" not in name else f"{scheme[:200]}:..."
        known = ", ".join(f"{kind}:..." if form.write else kind for kind, form in FORMS.items())
        likely = meant(name[:200]) if "@" not in name else None
        hint = f"did you mean {likely!r}? Known are" if likely else "known are"
        raise ConfigurationError(f"unknown reward model {shown!r}: {hint} {known}")
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
            return SCHEMES[scheme](Connected(source, options))
        if scheme == "command":  # cheap to make, and its files may have changed
            return _command(source)
        # Keys, base URLs and files decide too: what they were is part of the key.
        return _load(scheme, source, frozenset(os.environ.items()), _content(source))


@cache
def _load(scheme: str, source: str, *_decides: object) -> Any:
    return SCHEMES[scheme](source)


def _served(scheme: str, source: str) -> RewardModel:
    # Imported when one is asked for: an HTTP client takes longer than all of this.
    from tpo_graph.rewards.served import endpoint_options, parse_served
    from tpo_graph.rewards.sglang import SGLangRewardModel
    from tpo_graph.rewards.vllm import VLLMRewardModel

    served = parse_served(source, scheme)
    options = endpoint_options(source, served.url, f"{scheme.upper()}_API_KEY")
    kind = VLLMRewardModel if scheme == "vllm" else SGLangRewardModel
    return kind(model=served.model, tokenizer=served.tokenizer, **options)


def _judge(source: str) -> RewardModel:
    from tpo_graph.rewards.judge import JudgeRewardModel

    model, options = _options(source, "judge", "rubric")
    if options:
        rubric = _path(options["rubric"])
        return JudgeRewardModel.by_rubric(Connected(model, options_of(source)), rubric)
    if source.endswith(".toml"):
        return JudgeRewardModel.from_file(_path(source), options_of(source))
    return JudgeRewardModel(source)


def _python(source: str) -> RewardModel:
    rest, _, attribute = source.partition("#")
    path, options = _options(rest, "python", "name")
    return python_reward(_path(path), attribute or "score", options.get("name"))


def _command(source: str) -> RewardModel:
    command, options = _options(source, "command", "timeout", "name", "env")
    return CommandReward(
        command,
        timeout=_seconds(options) or 60.0,
        name=options.get("name"),
        environment=options["env"].split(",") if "env" in options else (),
    )


def _tests(source: str) -> RewardModel:
    path, options = _options(source, "tests", "timeout")
    return UnitTestReward.from_file(_path(path), timeout=_seconds(options))


def _self_consistency(source: str) -> RewardModel:
    pattern = source.removeprefix("?pattern=")  # as it is: "+" and "%" mean something in it
    if pattern == source != "" or source == "?pattern=":
        raise ConfigurationError(
            f"unknown {source!r} after self-consistency: write self-consistency, or "
            "self-consistency?pattern=REGEX"
        )
    return SelfConsistency(pattern=pattern or None)


def _options(source: str, scheme: str, *known: str) -> tuple[str, dict[str, str]]:
    """What stands before the options "?name=value&name=value" at the end of a source, and these."""
    found = _OPTIONS.search(source)
    if found is None:
        return source, {}
    options = dict(parse_qsl(found[1], keep_blank_values=True))
    if unknown := sorted(name for name in options if name not in known or not options[name]):
        raise ConfigurationError(
            f"unknown or empty options {unknown!r} of {scheme}: there are {list(known)!r}"
        )
    return source[: found.start()], options


_OPTIONS = re.compile(r"\?([a-z_]+=[^?]*)$")


def _seconds(options: Mapping[str, str]) -> float | None:
    given = options.get("timeout")
    if given is None:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"timeout={given!r} is not a number of seconds above 0")
    return seconds


_open_files: list[Path] = []
"""Files that name other reward models and are being read, each by the one before; see `LOADING`."""


def _of_others(
    from_file: Callable[[Path, Callable[[str, Path], RewardModel]], RewardModel], source: str
) -> RewardModel:
    file = _path(source).resolve()
    if file in _open_files:
        chain = " -> ".join(repr(str(one)) for one in (*_open_files, file))
        raise ConfigurationError(f"a reward model cannot be part of itself: {chain}")
    _open_files.append(file)
    try:
        return from_file(_path(source), lambda name, at: load_reward_model(anchored(name, at)))
    finally:
        _open_files.pop()


def _path(source: str) -> Path:
    return Path(source).expanduser()


SCHEMES: Mapping[str, Callable[[str], RewardModel]] = MappingProxyType(
    {
        "local": LocalRewardModel,
        "vllm": partial(_served, "vllm"),
        "sglang": partial(_served, "sglang"),
        "judge": _judge,
        "python": _python,
        "command": _command,
        "tests": _tests,
        "json-schema": lambda source: JsonSchemaReward.from_file(_path(source)),
        "regex": lambda source: RegexReward.from_file(_path(source)),
        "self-consistency": _self_consistency,
        "ensemble": partial(_of_others, EnsembleRewardModel.from_file),
        "length-penalty": partial(_of_others, LengthPenalty.from_file),
    }
)
"""What loads each kind of `tpo_graph.rewards.forms`."""


def _content(source: str) -> bytes | None:
    """What is in the file that a source names: another content is another reward model."""
    rubric = re.search(r"\?rubric=(.+)$", source)
    path = rubric[1] if rubric else _OPTIONS.sub("", source.partition("#")[0])
    try:
        return _path(path).read_bytes() if path.endswith((".toml", ".py", ".json")) else None
    except OSError:  # whoever reads it says what is wrong
        return None
