"""Intervals hold the truth as often as they say; prompts, not runs, are what is resampled."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpo_graph.evaluation.results import Estimate
from tpo_graph.evaluation.statistics import (
    by_prompt,
    estimate,
    estimate_share,
    holm,
    mean_of,
    p_value,
    prompts_needed,
    std_by_prompt,
)


def test_the_interval_of_a_known_sample():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400).tolist()
    found = estimate(values)
    assert found == estimate(values)
    assert found.value == pytest.approx(np.mean(values))
    margin = 1.96 * np.std(values, ddof=1) / 400**0.5
    assert found.low == pytest.approx(found.value - margin, abs=0.03)
    assert found.high == pytest.approx(found.value + margin, abs=0.03)


def test_comparisons_are_corrected_for_their_number():
    assert holm([0.01, 0.04, None, 0.03]) == [pytest.approx(0.03), 0.06, None, 0.06]
    random = np.random.default_rng(3)
    nothing = [[p_value(row.tolist()) for row in random.normal(0, 1, (8, 20))] for _ in range(400)]
    found = np.mean([min(holm(ps)) < 0.05 for ps in nothing])
    assert found <= 0.075  # with nothing to find, in one family of twenty
    assert np.mean([min(ps) < 0.05 for ps in nothing]) > 0.2  # uncorrected, in every third


def test_so_many_prompts_do_tell_the_difference_four_times_of_five():
    random = np.random.default_rng(4)
    some = random.normal(0.3, 1, 5000).tolist()
    n = prompts_needed(some)
    assert n is not None
    told = [p_value(random.normal(0.3, 1, n).tolist()) < 0.05 for _ in range(1000)]
    assert np.mean(told) == pytest.approx(0.8, abs=0.06)
    assert prompts_needed(some, comparisons=20) > n
    assert prompts_needed([1.0, 1.0]) is None
    few = [2.0, 3.0, 4.1]  # too few to tell, so more of them are needed
    assert 3 * p_value(few) > 0.05
    assert prompts_needed(few, comparisons=3) > 3
    assert p_value([1.0]) is None


def coverage(interval: Callable[[list[float]], Estimate], samples: np.ndarray, truth: float):
    """The share of samples, a row each, whose interval holds the truth."""
    found = [interval(row.tolist()) for row in samples]
    held = [
        each.low <= truth <= each.high if each.low is not None else each.value == truth
        for each in found
    ]
    return np.mean(held)


def test_intervals_of_skewed_differences_keep_their_word():
    # Most prompts gain a little, a few much. A BCa bootstrap holds the mean in 85% of such samples.
    random = np.random.default_rng(2)
    skewed = random.exponential(1.0, (2000, 12)) - random.exponential(0.6, (2000, 12))
    assert coverage(estimate, skewed, 0.4) >= 0.93
    assert coverage(estimate, random.normal(0, 1, (2000, 10)), 0.0) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.97])
def test_intervals_of_shares_keep_their_word_near_the_edge(share: float):
    # A bootstrap of 30 answers misses a share of .97 about every second time.
    draws = np.random.default_rng(3).binomial(1, share, (2000, 30)).astype(float)
    assert coverage(estimate_share, draws, share) >= 0.925


def test_a_perfect_score_is_not_certain():
    found = estimate_share([1.0] * 500)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.9924, abs=1e-4)
    with pytest.raises(ValueError, match=r"between 0 and 1, not 1\.5"):
        estimate_share([0.5, 1.5])


@settings(max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=12))
def test_any_values_have_an_interval_around_their_mean_or_none(values: list[float]):
    found = estimate(values)
    if found.low is None:
        assert len(set(values)) == 1
    else:
        assert found.low <= found.value <= found.high


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_any_share_lies_in_its_interval_and_that_between_0_and_1(values: list[float]):
    found = estimate_share(values)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_equal_values_tell_no_interval_and_no_values_nothing():
    assert estimate([2.0, 2.0, 2.0]) == Estimate(2.0, None, None)
    assert mean_of([]) is None
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_seeds_are_averaged_within_a_prompt():
    values = [("a", 1.0), ("a", 3.0), ("b", 10.0)]
    assert by_prompt(values) == {"a": 2.0, "b": 10.0}
    assert std_by_prompt(values) == {"a": pytest.approx(2**0.5)}
    # As if every prompt had run once: ten seeds of one prompt do not narrow the interval.
    once = [(str(i), float(i)) for i in range(6)]
    assert mean_of(once) == mean_of(once * 10)
