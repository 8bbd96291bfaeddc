"""The extremes of the newest samples only, so that an early lucky one cannot hold the loop.

The loop of self-refinement (arXiv 2303.17651) goes on from its latest answer in the same way.
"""

from random import Random

from tpo_graph.candidates import best, worst
from tpo_graph.strategies.base import Pool, Shown


class Newest:
    """The best and the worst of the newest samples; of all iterations where there are none."""

    name, keep = "newest", 0

    def __call__(self, pool: Pool, draw: Random, width: int) -> Shown:
        """See `Select`."""
        if not pool.newest:
            return [[pool.best, pool.worst]]
        return [[best(pool.newest), worst(pool.newest)]]
