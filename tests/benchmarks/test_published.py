"""The length-controlled win rate takes a judge's liking for length away, and no more."""

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.published import alpaca_eval, length_controlled


def judged(worth: float, gaps: np.ndarray, difficulty: np.ndarray):
    return 1 / (1 + np.exp(2.0 * np.tanh(gaps / gaps.std(ddof=1)) - worth - difficulty))


@pytest.mark.parametrize("worth", [0.0, -2.0])
def test_a_system_that_writes_less_is_judged_as_if_it_wrote_as_much(worth: float):
    random = np.random.default_rng(5)
    difficulty = random.normal(0, 1, 805)
    gaps = random.normal(1500, 500, 805)  # nearly every answer of the reference is longer
    preferences = judged(worth, gaps, difficulty)
    equal = 100 * np.mean(1 / (1 + np.exp(-worth - difficulty)))
    anchors = [
        (judged(0.0, gap, difficulty), gap)
        for gap in (random.normal(900, 400, 805), random.normal(-350, 300, 805))
    ]
    assert 100 * preferences.mean() < equal - 10
    assert length_controlled(preferences, gaps, difficulty, anchors) == pytest.approx(equal, abs=1)


@pytest.mark.skipif(
    "TPO_ALPACA_EVAL" not in os.environ, reason="TPO_ALPACA_EVAL names no checkout of AlpacaEval"
)
def test_the_rates_of_alpaca_7b_are_those_of_the_leaderboard():
    found = alpaca_eval(Path(os.environ["TPO_ALPACA_EVAL"]))
    assert found["win rate"] == pytest.approx(2.5914505402, abs=1e-9)
    assert found["length-controlled, published weights"] == pytest.approx(5.8754871632, abs=1e-8)
    assert found["length-controlled, own fit"] == pytest.approx(5.8754871632, abs=0.5)
