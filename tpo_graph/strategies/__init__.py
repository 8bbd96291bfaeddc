"""Strategies: what `select` shows, which candidate is the answer, when to stop; one file each.

Settings name them, NAME or NAME:PARAMETER (`select="top-k:3"`, `pick="tempered:0.5"`,
`stop="expected-gain:0.1"`). An object with the same methods (`base`) does as well.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, cast

from tpo_graph.concurrency.callbacks import need_plain
from tpo_graph.context import CommonSettings
from tpo_graph.errors import ConfigurationError, instead
from tpo_graph.strategies.argmax import Argmax
from tpo_graph.strategies.base import Pick, Pool, Select, Shown, StopRule, Strategy
from tpo_graph.strategies.expected_gain import ExpectedGain
from tpo_graph.strategies.knockout import Knockout
from tpo_graph.strategies.newest import Newest
from tpo_graph.strategies.pair import Pair
from tpo_graph.strategies.random_subset import RandomSubset
from tpo_graph.strategies.reversed_pair import ReversedPair
from tpo_graph.strategies.tempered import Tempered
from tpo_graph.strategies.top_k import TopK

__all__ = [
    "Argmax",
    "ExpectedGain",
    "Knockout",
    "MoreSettings",
    "Newest",
    "Pair",
    "Pick",
    "Pool",
    "RandomSubset",
    "ReversedPair",
    "RunSettings",
    "Select",
    "Shown",
    "StopRule",
    "Strategy",
    "Tempered",
    "TopK",
    "named",
    "split_objects",
]


class MoreSettings(CommonSettings, total=False):
    """Settings of a run but width and depth, whose strategies may be objects."""

    select: str | Select
    """Responses shown to critic and update."""
    pick: str | Pick
    """How the answer is chosen."""
    stop: str | StopRule | None
    """An additional stop rule."""
    on_failure: Literal["answer", "raise"]
    """If a step fails permanently after there is an answer: end with it, or raise."""


class RunSettings(MoreSettings, total=False):
    """Settings of a run, whose strategies may be objects; for type checkers and editors."""

    width: int
    """N: responses sampled at the start and written by each update."""
    depth: int
    """D: how many times the loss, gradient, update loop runs. 0 is best-of-N."""


Kind = Literal["select", "pick", "stop"]
KINDS: tuple[Kind, ...] = ("select", "pick", "stop")
_COUNT = re.compile(r"[2-9]|[1-9]\d{1,2}")
_NUMBER = re.compile(r"\d{1,6}(\.\d{1,6})?|\.\d{1,6}")


def _count(text: str) -> int:
    if not _COUNT.fullmatch(text):
        raise ValueError("a whole number from 2 to 999")
    return int(text)


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text) or float(text) == 0:
        raise ValueError("a number above 0")
    return float(text)


def _expected_gain(text: str) -> ExpectedGain:
    price, _, learned = text.partition(":")
    try:
        gains = [float(gain) for gain in learned.split(",")] if learned else []
    except ValueError as e:
        raise ValueError("a price above 0, and learned gains as PRICE:GAIN,GAIN,...") from e
    return ExpectedGain(_number(price), gains)


_PLAIN: Mapping[Kind, Mapping[str, Callable[[], Strategy]]] = {
    "select": {
        "pair": Pair,
        "newest": Newest,
        "top-k": TopK,
        "random-subset": RandomSubset,
        "reversed-pair": ReversedPair,
    },
    "pick": {"argmax": Argmax, "knockout": Knockout, "tempered": Tempered},
    "stop": {"expected-gain": ExpectedGain},
}
_WITH: Mapping[str, Callable[[str], Strategy]] = {
    "top-k": lambda text: TopK(_count(text)),
    "random-subset": lambda text: RandomSubset(_count(text)),
    "knockout": lambda text: Knockout(_count(text)),
    "tempered": lambda text: Tempered(_number(text)),
    "expected-gain": _expected_gain,
}


def named(kind: Kind, name: str, own: Mapping[str, Strategy] | None = None) -> Any:
    """The strategy that the setting of that kind calls NAME or NAME:PARAMETER, or one of one's own.

    Raises:
        ConfigurationError: there is none of that name, or its parameter is wrong.
    """
    if own and name in own:
        if kind != "pick":
            need_plain(kind, own[name])
        return own[name]
    word, colon, parameter = name.partition(":")
    known = _PLAIN[kind]
    if word not in known:
        raise ConfigurationError(
            f"{kind}={name!r} is not a strategy of that kind (one of your own is given as an "
            f"object: {kind}=OBJECT when the run begins, strategies=[OBJECT] when it is resumed); "
            f"{instead(word, known)}"
        )
    if not colon:
        return known[word]()
    try:
        if word not in _WITH:
            raise ValueError("nothing: it has no parameter")
        return _WITH[word](parameter)
    except ValueError as e:
        raise ConfigurationError(f"{kind}={name!r}: after {word!r} there can be {e}.") from e


def split_objects(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[Strategy]]:
    """Settings in which strategies are given by name alone, and the objects they were given as."""
    plain = dict(settings)
    objects: list[Strategy] = []
    for kind in KINDS:
        given: Any = plain.get(kind)
        if given is None or isinstance(given, str):
            continue
        name: object = getattr(given, "name", None)
        if not callable(given) or not isinstance(name, str) or not name:
            raise ConfigurationError(
                f"{kind}={given!r} is neither a name nor a strategy: it needs a name and __call__ "
                "(tpo_graph.strategies.base)."
            )
        if kind != "pick":
            need_plain(kind, given)
        objects.append(cast("Strategy", given))
        plain[kind] = name
    return plain, objects


def by_name(objects: Sequence[Strategy]) -> dict[str, Strategy]:
    """The objects by their names.

    Raises:
        ConfigurationError: one has none.
    """
    for one in objects:
        if not isinstance(getattr(one, "name", None), str):
            raise ConfigurationError(
                f"strategies=[{one!r:.200}]: each needs a name (tpo_graph.strategies.base)."
            )
    return {one.name: one for one in objects}
