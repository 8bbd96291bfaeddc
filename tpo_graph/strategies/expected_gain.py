"""Stop when another iteration is expected to gain less than its price (Pandora's box).

After arXiv 2510.01394, which applies Weitzman's rule to sampling: go on while the expected excess
over the best so far is above the price of drawing, with rewards brought to one scale per prompt.
Here the unit is the standard deviation of a run's first samples, for the price as for the gains.

The expectation comes from earlier runs (`learn`), or, where nothing was learned, from the run's own
newest samples taken as a normal distribution, of a spread that is widened for how few they are.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import NormalDist, fmean
from typing import Self

from tpo_graph.candidates import IterationSummary

_STEPS = 200


class ExpectedGain:
    """Stops when the expected gain of one more iteration is below the price.

    Args:
        price: in standard deviations of the first samples' rewards, above 0.
        gains: what an iteration gained in earlier runs, in the same unit: after the first samples,
            after the first update, and so on; the last holds for all later ones.
    """

    def __init__(self, price: float = 0.1, gains: Sequence[float] = ()) -> None:
        self._price = price
        self._gains = tuple(gains)
        learned = [",".join(f"{gain:g}" for gain in gains)] if gains else []
        self.name = ":".join(["expected-gain", f"{price:g}", *learned])

    @classmethod
    def learn(cls, price: float, histories: Iterable[Sequence[IterationSummary]]) -> Self:
        """The rule for gains as stored runs had them (`TPOResult.history`).

        Args:
            price: see the class.
            histories: of runs under the same reward model; those whose first samples have equal
                rewards tell nothing.

        Raises:
            ValueError: no run tells anything.
        """
        found: dict[int, list[float]] = {}
        for history in histories:
            unit = history[0]["std"] if history else None
            if not unit:
                continue
            for before, after in pairwise(history):
                gain = (after["best_so_far"] - before["best_so_far"]) / unit
                found.setdefault(before["iteration"], []).append(gain)
        if not found:
            raise ValueError("no run to learn from: it takes updates, and first samples that vary")
        return cls(price, [fmean(found[iteration]) for iteration in sorted(found)])

    def __call__(self, history: Sequence[IterationSummary]) -> bool:
        """See `StopRule`. Without a spread of the first samples there is no unit: go on."""
        unit = history[0]["std"]
        if not unit:
            return False
        if self._gains:
            place = min(history[-1]["iteration"], len(self._gains) - 1)
            return self._gains[place] < self._price
        latest = history[-1]
        if latest["mean"] is None or latest["std"] is None or latest["n"] < 2:
            return False
        n = latest["n"]
        spread = latest["std"] * math.sqrt(n / (n - 1)) * (1 + 1 / math.sqrt(2 * (n - 1)))
        gain = _excess(latest["mean"], spread, n, latest["best_so_far"])
        return gain / unit < self._price


def _excess(mean: float, spread: float, n: int, best: float) -> float:
    """E[max(0, the maximum of n normal samples - best)], by the midpoint rule."""
    if spread <= 0:
        return max(0.0, mean - best)
    normal = NormalDist(mean, spread)
    top = mean + 8 * spread
    start = max(best, mean - 8 * spread)
    if top <= start:
        return 0.0
    step = (top - start) / _STEPS
    tail = sum(1 - normal.cdf(start + (i + 0.5) * step) ** n for i in range(_STEPS)) * step
    return tail + max(0.0, start - best)
