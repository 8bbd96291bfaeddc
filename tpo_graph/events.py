"""Progress events: what the graph tells a user interface while it runs.

Nodes write them to LangGraph's custom stream (`stream_mode="custom"`); each is a small plain
dictionary with an `event` key. The command line's own progress display is made of them.
"""

from typing import Literal, TypedDict

from tpo_graph.stopping import StopReason


class Samples(TypedDict):
    """N responses were written; they have no rewards yet."""

    event: Literal["samples"]
    run_id: str
    iteration: int
    n: int


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
    text: str


class Gradient(TypedDict):
    """The critic turned the loss into instructions."""

    event: Literal["gradient"]
    run_id: str
    iteration: int
    text: str


class Stopped(TypedDict):
    """The run ended, and why."""

    event: Literal["stopped"]
    run_id: str
    iteration: int
    reason: StopReason
    reward: float


Event = Samples | Rewards | NewBest | Loss | Gradient | Stopped
