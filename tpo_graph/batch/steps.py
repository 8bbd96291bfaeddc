"""What a run's steps tell the controller of how many may be in flight (`concurrency.py`)."""

from collections.abc import Mapping
from typing import Any

from tpo_graph.concurrency.in_flight import Flight
from tpo_graph.usage import Ledger


class StepReporter:
    """Tells a `Flight` of a run's steps, from LangGraph's account of its nodes."""

    def __init__(self, flight: Flight, width: int) -> None:
        self._flight = flight
        self._width = width
        self._tokens = 0
        """Completion tokens of the stage that runs, before it began."""

    def __call__(self, task: Mapping[str, Any]) -> None:
        """A node starts ("input" is the state it gets) or ends ("result" is what it changes)."""
        stage: str = task["name"]
        if "input" in task:
            self._starts(stage, task["input"])
        elif (update := task.get("result")) and not (task.get("error") or update.get("failure")):
            self._ends(stage, update)

    def _starts(self, stage: str, state: Mapping[str, Any]) -> None:
        self._tokens = _completion_tokens(state, stage)
        if stage in ("sample", "update"):
            self._flight.step(self._width)
        elif stage in ("loss", "gradient"):
            # One sample, but an update of `width` is soon to follow.
            self._flight.step(max(1.0, 0.4 * self._width))
        elif stage == "reward_score":
            self._flight.step(len(state["samples"]))

    def _ends(self, stage: str, update: Mapping[str, Any]) -> None:
        if stage == "reward_score":
            self._flight.scored(len(update["rewards"]))
        elif stage != "select":
            texts: list[str] = update["samples"] if "samples" in update else [update[stage]]
            characters = [len(text) for text in texts]
            tokens = _completion_tokens(update, stage) - self._tokens or sum(characters) / 4
            if any(characters):
                self._flight.replied(tokens * max(characters) / sum(characters))


def _completion_tokens(state: Mapping[str, Any], stage: str) -> int:
    usage: Ledger = state.get("usage") or {}
    return usage[stage]["completion_tokens"] if stage in usage else 0
