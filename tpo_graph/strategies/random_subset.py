"""Random subsets of the newest samples, one for each sample of the update.

Recursive Self-Aggregation (arXiv 2509.26626): a population of N answers; each of the next N is
written from K drawn from the population without replacement, and the new population takes the place
of the old one. The paper has no critic and no reward model in the loop (N=16, K=4).
"""

from random import Random

from tpo_graph.candidates import rank
from tpo_graph.strategies.base import Pool, Shown


class RandomSubset:
    """`width` subsets of k; each shows its best first. The best of all where there is nothing new.

    Args:
        k: size of a subset, at least 2; all of the newest where there are fewer.
    """

    keep = 0

    def __init__(self, k: int = 3) -> None:
        self._k = k
        self.name = f"random-subset:{k}"

    def __call__(self, pool: Pool, draw: Random, width: int) -> Shown:
        """See `Select`."""
        population = list(pool.newest) or [pool.best, pool.worst]
        k = min(self._k, len(population))
        return [sorted(draw.sample(population, k), key=rank) for _ in range(width)]
