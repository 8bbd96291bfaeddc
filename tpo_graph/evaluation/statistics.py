"""Intervals: Student's t for means, Wilson's for shares, paired where the prompts are the same.

Prompts are the clusters: runs of one prompt under several seeds are averaged first, because they
tell less than as many prompts would. Terminal, report and documentation use these functions and no
others. Student's t, not a bootstrap: on skewed differences of few prompts the BCa bootstrap
missed the truth 10 to 15% of the time where t missed 4 to 8%.
"""

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist, fmean, stdev
from typing import Any

from tpo_graph.evaluation.results import Estimate
from tpo_graph.extras import extra

CONFIDENCE = 0.95


def mean_of(values: Iterable[tuple[str, float]]) -> Estimate | None:
    """The estimate over prompts of values by row id; None without values."""
    means = list(by_prompt(values).values())
    return estimate(means) if means else None


def require_scipy() -> Any:
    """scipy.stats.

    Raises:
        ConfigurationError: it is not installed; asked for before anything is run.
    """
    with extra("evaluate", "an interval"):
        from scipy import stats  # pyright: ignore[reportMissingTypeStubs]
    return stats


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one value per prompt with its 95% interval by Student's t.

    Fewer than two values, or values that are all equal, tell nothing about how much they vary:
    they have no interval.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to estimate a mean from")
    mean = fmean(values)
    if len(values) < 2 or max(values) == min(values):
        return Estimate(mean, None, None)
    quantile = float(require_scipy().t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
    margin = quantile * stdev(values) / math.sqrt(len(values))
    return Estimate(mean, mean - margin, mean + margin)


def p_value(values: Sequence[float]) -> float | None:
    """Student's t test of one difference per prompt against 0, two-sided; None where `estimate`
    has no interval."""
    if len(values) < 2 or max(values) == min(values):
        return None
    t = abs(fmean(values)) / (stdev(values) / math.sqrt(len(values)))
    return float(2 * require_scipy().t.sf(t, len(values) - 1))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """The p values corrected for how many there are (Holm's step-down), in their order.

    Below 0.05 after that, the chance that any of them is there for nothing is at most 5%.
    """
    ranked = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None for _ in p_values]
    highest = 0.0
    for rank, (p, place) in enumerate(ranked):
        highest = max(highest, min(1.0, (len(ranked) - rank) * p))
        corrected[place] = highest
    return corrected


def prompts_needed(values: Sequence[float], comparisons: int = 1) -> int | None:
    """How many prompts would tell a difference as large as this one from 0, four times of five.

    Args:
        values: one difference per prompt.
        comparisons: how many are made; each is held to a share of the 5% (Bonferroni).

    Returns:
        None where the values have no spread, or their mean is 0.
    """
    if len(values) < 2 or max(values) == min(values) or fmean(values) == 0:
        return None
    tail = (1 - CONFIDENCE) / max(1, comparisons) / 2
    effect = abs(fmean(values)) / stdev(values)
    normal, student = NormalDist(), require_scipy().t
    count = max(2, math.ceil(((normal.inv_cdf(1 - tail) + normal.inv_cdf(0.8)) / effect) ** 2))
    # The pairs are told apart by Student's t, which asks for more of few prompts.
    while effect * math.sqrt(count) < student.isf(tail, count - 1) + student.isf(0.2, count - 1):
        count += 1
    return count


def estimate_share(values: Sequence[float]) -> Estimate:
    """The mean of one value between 0 and 1 per prompt with its 95% interval by Wilson.

    500 right answers of 500 are 100% [99.2%, 100%]. Values between 0 and 1 (ties, several seeds of
    one prompt) vary less than the coin that Wilson assumes: the interval is then on the safe side.

    Raises:
        ValueError: there are no values, or one is not between 0 and 1.
    """
    if not values:
        raise ValueError("no values to estimate a share from")
    if outside := [value for value in values if not 0 <= value <= 1]:
        raise ValueError(f"a share is made of values between 0 and 1, not {outside[0]!r}")
    n, share = len(values), fmean(values)
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    margin = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Rounding must not put a share of exactly 0 or 1 outside of its own interval.
    return Estimate(
        share, min(max(0.0, centre - margin), share), max(min(1.0, centre + margin), share)
    )


def by_prompt(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Row id -> the mean of its values over the seeds."""
    return {row: fmean(found) for row, found in _grouped(values).items()}


def std_by_prompt(values: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Row id -> the standard deviation (n - 1) of its values; rows with one value are left out."""
    return {row: stdev(found) for row, found in _grouped(values).items() if len(found) > 1}


def _grouped(values: Iterable[tuple[str, float]]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for row_id, value in values:
        groups.setdefault(row_id, []).append(value)
    return groups
