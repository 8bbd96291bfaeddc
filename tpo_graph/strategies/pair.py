"""The pair of TPO (arXiv 2501.12895, Algorithm 1): the best and the worst of all iterations."""

from random import Random

from tpo_graph.strategies.base import Pool, Shown


class Pair:
    """chosen = argmax C, rejected = argmin C, over the whole cache."""

    name, keep = "pair", 0

    def __call__(self, pool: Pool, draw: Random, width: int) -> Shown:
        """See `Select`."""
        return [[pool.best, pool.worst]]
