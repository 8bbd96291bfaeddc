"""Methods by name: a prompt set and strategies that belong together, as `--method` names them.

Each says what a paper's method is in the settings of this graph. Width and depth stay the user's,
but where the method is nothing without another depth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tpo_graph.errors import ConfigurationError, instead


@dataclass(frozen=True)
class NamedMethod:
    """What a name stands for."""

    title: str
    """For people."""
    settings: Mapping[str, Any]
    """`prompts` and fields of `TPOContext`."""
    control: bool = False
    """It should lose: it is there to show that what it lacks makes a difference."""


AUTO = "tpo"
"""What `auto` is: the method that won (docs/league.md)."""

METHODS: Mapping[str, NamedMethod] = {
    "tpo": NamedMethod("TPO", {"prompts": "tpo"}),
    "revision": NamedMethod("Revision", {"prompts": "revision"}),
    "feedback": NamedMethod("Feedback", {"prompts": "feedback"}),
    "newest": NamedMethod("Newest pair", {"prompts": "tpo", "select": "newest"}),
    "near-miss": NamedMethod("Near miss", {"prompts": "tpo", "select": "top-k:3"}),
    "fusion": NamedMethod("FusionN", {"prompts": "synthesis", "select": "top-k:5"}),
    "rsa": NamedMethod("RSA", {"prompts": "synthesis", "select": "random-subset:3"}),
    "tmpc": NamedMethod("TMPC", {"prompts": "tmpc", "select": "top-k:3"}),
    "knockout": NamedMethod("Knockout", {"prompts": "tpo", "pick": "knockout:4"}),
    "tempered": NamedMethod("Tempered", {"prompts": "tpo", "pick": "tempered:0.25"}),
    "expected-gain": NamedMethod(
        "Expected gain", {"prompts": "tpo", "stop": "expected-gain:0.25", "depth": 4}
    ),
    "pandora": NamedMethod(
        "Pandora", {"prompts": "resample", "stop": "expected-gain:0.05", "depth": 10}
    ),
    "no-critique": NamedMethod("No critique", {"prompts": "no-critique"}, control=True),
    "random-edit": NamedMethod("Random edit", {"prompts": "random-edit"}, control=True),
    "reversed": NamedMethod(
        "Labels reversed", {"prompts": "tpo", "select": "reversed-pair"}, control=True
    ),
}
NEUTRAL: Mapping[str, Any] = {"select": "pair", "pick": "argmax", "stop": None}
"""What a method leaves alone is TPO's."""


def method_settings(name: str) -> dict[str, Any]:
    """The settings of that name, ready for `optimize(query, **settings)`.

    Args:
        name: one of `METHODS`, "auto" or "best-of-n" (the loop at depth 0).

    Raises:
        ConfigurationError: no method has that name.
    """
    if name == "best-of-n":
        return {**NEUTRAL, "depth": 0}
    method = METHODS.get(AUTO if name == "auto" else name)
    if method is None:
        known = ["auto", "best-of-n", *METHODS]
        raise ConfigurationError(f"method={name!r} is not a method: {instead(name, known)}")
    return {**NEUTRAL, **method.settings}
