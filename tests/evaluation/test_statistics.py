"""Intervals hold the truth as often as they say; prompts, not runs, are what is resampled."""

import sys
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.statistics import (
    by_pair,
    by_prompt,
    differences,
    estimate,
    estimate_or_none,
    matched,
    std_by_prompt,
)


@dataclass(frozen=True)
class Run:
    row_id: str
    seed: int
    reward: float


def test_the_interval_of_a_known_sample():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400).tolist()
    found = estimate(values)
    assert found == estimate(values)
    assert found.value == pytest.approx(np.mean(values))
    margin = 1.96 * np.std(values, ddof=1) / 400**0.5
    assert found.low == pytest.approx(found.value - margin, abs=0.03)
    assert found.high == pytest.approx(found.value + margin, abs=0.03)


def test_intervals_hold_the_mean_about_as_often_as_they_say():
    random = np.random.default_rng(2)
    hits = 0
    for _ in range(100):
        found = estimate(random.exponential(1.0, 40).tolist())
        hits += found.low <= 1.0 <= found.high
    assert 86 <= hits <= 99


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=12))
def test_any_values_have_an_interval_around_their_mean(values: list[float]):
    found = estimate(values)
    if len(values) == 1:
        assert (found.low, found.high) == (None, None)
    else:
        assert found.low <= found.value <= found.high
        tolerance = 1e-6 * max(map(abs, values), default=1)
        assert min(values) - tolerance <= found.low
        assert found.high <= max(values) + tolerance


def test_equal_values_and_none():
    assert estimate([2.0, 2.0, 2.0]).low == 2.0
    assert estimate_or_none([]) is None
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_seeds_are_averaged_within_a_prompt():
    runs = [Run("a", 0, 1.0), Run("a", 1, 3.0), Run("b", 0, 10.0)]
    assert by_prompt(runs, lambda run: run.reward) == {"a": 2.0, "b": 10.0}
    assert std_by_prompt(runs, lambda run: run.reward) == {"a": pytest.approx(2**0.5)}
    # As if every prompt had run once: ten seeds of one prompt do not narrow the interval.
    once = [Run(str(i), 0, float(i)) for i in range(6)]
    often = [Run(str(i), seed, float(i)) for i in range(6) for seed in range(10)]
    intervals = [
        estimate(list(by_prompt(r, lambda run: run.reward).values())) for r in (once, often)
    ]
    assert intervals[0] == intervals[1]


def test_pairs_are_of_one_prompt_and_one_seed():
    first = [Run("a", 0, 5.0), Run("a", 1, 7.0), Run("b", 0, 1.0), Run("c", 2, 4.0)]
    second = [Run("c", 2, 1.0), Run("a", 1, 1.0), Run("b", 1, 9.0)]
    assert [(one.row_id, one.seed) for one, _ in matched(first, second)] == [("a", 1), ("c", 2)]
    assert differences(first, second, lambda run: run.reward) == {"a": 6.0, "c": 3.0}
    assert by_pair(first, second, lambda one, other: one.reward > other.reward) == {"a": 1, "c": 1}


def test_pairing_narrows_the_interval_that_prompts_widen():
    random = np.random.default_rng(3)
    hard = random.normal(0, 10, 50)
    first = [Run(str(i), 0, h + 1 + random.normal(0, 0.1)) for i, h in enumerate(hard)]
    second = [Run(str(i), 0, h) for i, h in enumerate(hard)]
    gain = estimate(list(differences(first, second, lambda run: run.reward).values()))
    assert 0.9 < gain.low < 1.0 < gain.high < 1.1


def test_scipy_missing_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'tpo-graph\[evaluate\]'"):
        estimate([1.0, 2.0])
