"""Progress events: what the graph tells a user interface while it runs.

Nodes write them to LangGraph's custom stream (`stream_mode="custom"`); each is a small plain
dictionary with an `event` key. The command line's own progress display is made of them.

Every step that finishes tells one event: `sample` and `update` tell `samples`, `reward_score`
tells `rewards`, `loss` and `gradient` tell theirs, `select` tells `new_best` and `stopped` where
they apply. A step that had nothing to do tells so with `n` 0 or an empty `text`; `unusable` is then
0 too, otherwise the model was asked and gave nothing of use. A step that runs again after a failure
may tell its event again. One that fails for good, and those after it, tell nothing; `stopped` does.
"""

from typing import Literal

from typing_extensions import TypedDict  # pydantic asks for it before Python 3.12

from tpo_graph.stopping import StopReason


class Samples(TypedDict):
    """Responses were written; they have no rewards yet."""

    event: Literal["samples"]
    run_id: str
    iteration: int
    n: int
    """How many usable ones there are."""
    unusable: int
    """Replies that were empty or could not be parsed, and were retried."""


class Rewards(TypedDict):
    """The newest responses were scored."""

    event: Literal["rewards"]
    run_id: str
    iteration: int
    rewards: list[float]


class NewBest(TypedDict):
    """A response beat every earlier one."""

    event: Literal["new_best"]
    run_id: str
    iteration: int
    position: int
    reward: float


class Loss(TypedDict):
    """The critic compared the best with the worst."""

    event: Literal["loss"]
    run_id: str
    iteration: int
    unusable: int
    text: str
    """Empty if nothing usable came, or nothing was asked."""


class Gradient(TypedDict):
    """The critic turned the loss into instructions."""

    event: Literal["gradient"]
    run_id: str
    iteration: int
    unusable: int
    text: str
    """Empty if nothing usable came, or nothing was asked."""


class Reviewed(TypedDict):
    """A person was asked and has answered (`tpo_graph.nodes.review`)."""

    event: Literal["reviewed"]
    run_id: str
    iteration: int
    at: Literal["select", "gradient"]
    """What they were shown."""
    action: Literal["continue", "stop"]
    changed: list[str]
    """What they gave: "chosen", "rejected", "gradient", "criteria"; empty if they agreed."""


class Stopped(TypedDict):
    """The run ended, and why."""

    event: Literal["stopped"]
    run_id: str
    iteration: int
    reason: StopReason
    reward: float
    error: str | None
    """Which failure ended it, where `reason` is "failed"."""


Event = Samples | Rewards | NewBest | Loss | Gradient | Reviewed | Stopped
