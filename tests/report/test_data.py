"""The numbers that a report is made of."""

import pytest

from tpo_graph.report.data import Run, pearson, quartiles, steps, within


def run(rewards: list[list[float]], status: str = "finished") -> Run:
    lengths = [[int(10 * reward) for reward in row] for row in rewards]
    return Run("query", status, rewards=rewards, lengths=lengths)


DEEP = run([[1.0, 2.0], [0.0, 4.0], [3.0, 3.5]])
SHORT = run([[5.0, 1.0]])


def test_a_run_gains_over_its_best_first_sample():
    assert (DEEP.first, DEEP.final, DEEP.gain) == (2.0, 4.0, 2.0)
    assert DEEP.best_so_far == [2.0, 4.0, 4.0]
    assert SHORT.gain == 0.0


def test_only_whole_finished_runs_count():
    assert DEEP.counts
    assert not run([[1.0]], "running").counts
    pruned = run([[], [], [7.0]])
    assert (pruned.final, pruned.first, pruned.gain, pruned.counts) == (7.0, None, None, False)
    assert (run([], "failed").final, run([], "failed").gain) == (None, None)


def test_a_run_that_stopped_early_keeps_its_best_but_has_no_more_samples():
    first, second, third = steps([DEEP, SHORT])
    assert (first.runs, second.runs, third.runs) == (2, 1, 1)
    assert first.best == [2.0, 5.0]
    assert third.best == [4.0, 5.0]
    assert first.means == [1.5, 3.0]
    assert second.samples == [0.0, 4.0]
    assert third.spread == pytest.approx(0.5 / 2**0.5)
    assert steps([]) == []


def test_an_update_that_gave_nothing_leaves_a_hole():
    _, hole, after = steps([run([[1.0], [], [2.0]])])
    assert (hole.runs, hole.samples, hole.means, hole.spread) == (0, [], [], None)
    assert (hole.best, after.best) == ([1.0], [2.0])


def test_quartiles_of_one_value_and_of_several():
    assert quartiles([3.0]) == (3.0, 3.0, 3.0)
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 3.0, 4.0)


def test_length_is_correlated_within_a_query():
    # Longer is better within each run, although the run of longer texts has the lower rewards.
    low = Run("q", "finished", rewards=[[1.0, 2.0]], lengths=[[100, 110]])
    high = Run("q", "finished", rewards=[[8.0, 9.0]], lengths=[[10, 20]])
    assert within([low, high]) == [(-5.0, -0.5), (5.0, 0.5)] * 2
    assert pearson(within([low, high])) == pytest.approx(1.0)
    assert pearson([(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)]) is None
    assert pearson([(1.0, 1.0)]) is None
