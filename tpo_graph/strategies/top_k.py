"""The k best of all iterations, for an update that writes one synthesis of them.

FusionN (arXiv 2510.00931) lets a model write one answer from N samples instead of taking the best
of them. With a critic, the pair is the best and the k-th best: a near miss instead of a failure.
"""

from random import Random

from tpo_graph.strategies.base import Pool, Shown


class TopK:
    """The k best candidates, the best first.

    Args:
        k: how many, at least 2.
    """

    def __init__(self, k: int = 3) -> None:
        self.keep = k
        self.name = f"top-k:{k}"

    def __call__(self, pool: Pool, draw: Random, width: int) -> Shown:
        """See `Select`."""
        return [list(pool.kept)]
