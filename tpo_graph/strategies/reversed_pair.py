"""TPO's pair with its labels exchanged: a control, which should lose to every other choice.

If it does not lose, what the critic says of a pair makes no difference.
"""

from random import Random

from tpo_graph.strategies.base import Pool, Shown


class ReversedPair:
    """The worst candidate is shown as chosen and the best as rejected."""

    name, keep = "reversed-pair", 0

    def __call__(self, pool: Pool, draw: Random, width: int) -> Shown:
        """See `Select`."""
        return [[pool.worst, pool.best]]
