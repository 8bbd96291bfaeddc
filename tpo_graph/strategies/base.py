"""What a strategy is: three small choices inside the nodes, each an object with a name.

A strategy keeps nothing from call to call: the graph's state carries what it needs (`keep`), and
its name, parameters included, is all that is stored with a run. So a resumed or extended run
chooses as it began.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Protocol

from tpo_graph.candidates import Candidate, IterationSummary

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from tpo_graph.conversation import Turn


@dataclass(frozen=True)
class Pool:
    """The candidates a `Select` may show."""

    best: Candidate
    """Of all iterations (argmax of the cache)."""
    worst: Candidate
    """Of all iterations (argmin of the cache)."""
    newest: Sequence[Candidate]
    """Of this iteration; empty after an update that gave nothing."""
    kept: Sequence[Candidate]
    """The `keep` best of all iterations, the best first."""


Shown = list[list[Candidate]]
"""One group, or one for each of the update's samples in turn. The first of a group is what the
critic takes for chosen, the last what it takes for rejected; the update may see all of them."""


class Select(Protocol):
    """Which candidates the critic and the update are shown (`select`)."""

    @property
    def name(self) -> str:
        """As settings say it, parameters included: "top-k:3"."""
        ...

    @property
    def keep(self) -> int:
        """How many of the best candidates of all iterations it needs; 0 for the extremes alone."""
        ...

    def __call__(self, pool: Pool, draw: Random, width: int) -> Shown:
        """The groups to show.

        Args:
            pool: what there is.
            draw: random numbers; the same for a step that runs again.
            width: how many samples the update will ask for.
        """
        ...


class Pick(Protocol):
    """Which candidate is the answer, once the run ends (`select`)."""

    @property
    def name(self) -> str:
        """As settings say it, parameters included: "tempered:0.5"."""
        ...

    @property
    def keep(self) -> int:
        """How many finalists it chooses among."""
        ...

    def order(self, candidate: Candidate, scale: float, salt: str) -> Any:
        """Sorts candidates; the `keep` least are the finalists.

        Args:
            candidate: scored.
            scale: standard deviation of the first samples' rewards; 0 where they are equal.
            salt: tells runs apart, and is the same for a step that runs again.
        """
        ...

    async def __call__(
        self,
        finalists: Sequence[Candidate],
        conversation: "Sequence[Turn]",
        critic: "BaseChatModel",
    ) -> Candidate:
        """One of the finalists, of which there is at least one, in their order.

        What it asks of a model it tells with `usage.spend`.
        """
        ...


class StopRule(Protocol):
    """When to stop, beyond depth and budgets (`select`)."""

    @property
    def name(self) -> str:
        """As settings say it, parameters included."""
        ...

    def __call__(self, history: Sequence[IterationSummary]) -> bool:
        """Whether another iteration is not worth its price.

        Args:
            history: one row of numbers per scored iteration, the newest last; at least one.
        """
        ...


Strategy = Select | Pick | StopRule
