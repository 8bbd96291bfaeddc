"""Means over prompts with bootstrap intervals, paired where two methods answered the same prompts.

Prompts are the unit that is resampled: runs of one prompt under several seeds are averaged first,
because they tell less than as many prompts would. Numbers come from `runs.py`.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Protocol, TypeVar

from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.results import Estimate

RESAMPLES = 4999
"""So many bootstrap resamples per interval."""
CONFIDENCE = 0.95


class Keyed(Protocol):
    """What belongs to one prompt and one seed."""

    @property
    def row_id(self) -> str: ...
    @property
    def seed(self) -> int: ...


K = TypeVar("K", bound=Keyed)


@dataclass(frozen=True)
class Value:
    """A number that belongs to one prompt and one seed."""

    row_id: str
    seed: int
    value: float


def mean_of(values: Iterable[Value]) -> Estimate | None:
    """The estimate over prompts; None without values."""
    return estimate_or_none(list(by_prompt(values, lambda value: value.value).values()))


def require_scipy() -> Any:
    """scipy.stats.

    Raises:
        ConfigurationError: it is not installed; asked for before anything is run.
    """
    try:
        from scipy import stats  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as e:
        raise ConfigurationError("intervals need scipy: pip install 'tpo-graph[evaluate]'") from e
    return stats


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one value per prompt with its bootstrap interval (bias-corrected, accelerated).

    The same values always give the same interval.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to estimate a mean from")
    mean = fmean(values)
    if len(values) < 2:
        return Estimate(mean, None, None)
    if max(values) == min(values):
        return Estimate(mean, mean, mean)
    low, high = _interval(values, "BCa")
    if math.isnan(low) or math.isnan(high):  # too few different values to correct by
        low, high = _interval(values, "percentile")
    # A mean of means may leave its interval by a rounding error.
    return Estimate(mean, min(low, mean), max(high, mean))


def estimate_or_none(values: Sequence[float]) -> Estimate | None:
    """`estimate`, or None when there are no values."""
    return estimate(values) if values else None


def _interval(values: Sequence[float], method: str) -> tuple[float, float]:
    import numpy as np

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns of what is handled by the caller
        found = require_scipy().bootstrap(
            (np.asarray(values, dtype=float),),
            np.mean,
            n_resamples=RESAMPLES,
            batch=max(1, 4_000_000 // len(values)),
            confidence_level=CONFIDENCE,
            method=method,
            rng=np.random.default_rng(0),
        )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def by_prompt(runs: Iterable[K], value: Callable[[K], float]) -> dict[str, float]:
    """Row id -> the mean of the values of its runs over the seeds."""
    return {row: fmean(values) for row, values in _grouped(runs, value).items()}


def std_by_prompt(runs: Iterable[K], value: Callable[[K], float]) -> dict[str, float]:
    """Row id -> the standard deviation (n - 1) over its runs; rows with one run are left out."""
    groups = _grouped(runs, value)
    return {row: stdev(values) for row, values in groups.items() if len(values) > 1}


def differences(
    first: Iterable[K], second: Iterable[K], value: Callable[[K], float]
) -> dict[str, float]:
    """Row id -> first minus second, for the runs of one prompt and seed that both have."""
    return by_pair(first, second, lambda one, other: value(one) - value(other))


def by_pair(
    first: Iterable[K], second: Iterable[K], value: Callable[[K, K], float]
) -> dict[str, float]:
    """Row id -> the mean over the seeds of a value of two runs."""
    values: dict[str, list[float]] = {}
    for one, other in matched(first, second):
        values.setdefault(one.row_id, []).append(value(one, other))
    return {row: fmean(found) for row, found in values.items()}


def matched(first: Iterable[K], second: Iterable[K]) -> list[tuple[K, K]]:
    """The runs of the same prompt under the same seed, in the order of the first."""
    others: Mapping[tuple[str, int], K] = {(run.row_id, run.seed): run for run in second}
    return [
        (run, others[run.row_id, run.seed]) for run in first if (run.row_id, run.seed) in others
    ]


def _grouped(runs: Iterable[K], value: Callable[[K], float]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = {}
    for run in runs:
        groups.setdefault(run.row_id, []).append(value(run))
    return groups
