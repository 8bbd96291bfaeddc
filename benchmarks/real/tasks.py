"""`Task`: a request, what the method may see of its truth (the reward), and what it may not."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tpo_graph.rewards import Score

Part = Literal["development", "held-out"]


@dataclass(frozen=True)
class Task:
    """One request of a family."""

    id: str
    """Unique, such as "humaneval/12"."""
    request: str
    reward: Callable[[str], Score]
    """From 0 to 1: what the method optimises, with what failed as its reason."""
    score: Callable[[str], float]
    """From 0 to 1: the truth. Only tables see it."""
    drawn: Callable[[Sequence[str]], None] = lambda _: None
    """Told all first samples before any answer is judged, for rewards that compare answers."""

    @property
    def part(self) -> Part:
        """The same for everybody and always: half of the ids, by their hash."""
        return "held-out" if hashlib.sha256(self.id.encode()).digest()[0] % 2 else "development"
