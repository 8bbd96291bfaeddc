"""The methods of the league: prompts, settings and depth of each, and what its calls cost."""

from dataclasses import dataclass, field
from typing import Any

from arms import DEPTH

TPO = "TPO"


@dataclass(frozen=True)
class Method:
    """One way to spend the budget."""

    name: str
    prompts: str = "prompts"
    depth: int = DEPTH
    settings: dict[str, Any] = field(default_factory=dict)
    critics: int = 2
    """Calls of the critic in an iteration."""
    knockout: bool = False
    ruled: bool = False
    """A call of it is done by a rule (`ruled.py`)."""
    control: bool = False
    fits: bool = False
    """Its depth is the one whose tokens are nearest to TPO's, up to `depth`."""


METHODS = (
    Method(TPO),
    Method("revision", "prompts-revision"),
    Method("newest pair", settings={"select": "newest"}),
    Method("near miss (top-k:3)", settings={"select": "top-k:3"}),
    Method(
        "FusionN", "prompts-synthesis", 6, {"select": "top-k:5"}, critics=0, ruled=True, fits=True
    ),
    Method("RSA", "prompts-synthesis", 6, {"select": "random-subset:3"}, 0, ruled=True, fits=True),
    Method("TMPC", "prompts-tmpc", 6, {"select": "top-k:3"}, 1, ruled=True, fits=True),
    Method("TPO, knockout", settings={"pick": "knockout:4"}, knockout=True),
    Method("TPO, tempered", settings={"pick": "tempered:0.25"}),
    Method("TPO, expected gain", depth=4, settings={"stop": "expected-gain:0.25"}),
    Method(
        "best-of-N, expected gain",
        "prompts-resample",
        10,
        {"stop": "expected-gain:0.05"},
        critics=0,
    ),
    Method("no critique", "prompts-no-critique", 4, critics=0, control=True, fits=True),
    Method("labels reversed", settings={"select": "reversed-pair"}, control=True),
    Method("random edit", "prompts-random-edit", 4, critics=1, control=True, ruled=True, fits=True),
)
