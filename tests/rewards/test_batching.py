"""The queue of a reward model: what goes into a batch, and who gets its scores or its errors."""

import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, wait

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpo_graph.local.batching import AHEAD, Row, Scorer, packed_batch, padded_batch

groups = st.lists(
    st.tuples(st.integers(0, 200), st.lists(st.integers(1, 100), min_size=1, max_size=6)),
    max_size=8,
)


def rows_of(shapes: list[tuple[int, list[int]]]) -> list[Row]:
    return [
        Row([0] * (shared + own), shared, group)
        for group, (shared, owns) in enumerate(shapes)
        for own in owns
    ]


def in_batches(rows: list[Row], choose, budget: int) -> list[list[Row]]:
    batches: list[list[Row]] = []
    while rows:
        chosen = choose(rows, budget)
        assert 0 in chosen  # the oldest never waits for newer ones
        assert len(set(chosen)) == len(chosen)
        batches.append([rows[i] for i in chosen])
        rows = [row for i, row in enumerate(rows) if i not in chosen]
    return batches


@given(groups, st.integers(1, 500))
def test_packed_batches_hold_each_row_once_within_the_budget_and_one_prefix(shapes, budget):
    rows = rows_of(shapes)
    batches = in_batches(rows, packed_batch, budget)
    assert [row for batch in batches for row in batch] == rows
    for batch in batches:
        prefixes = {row.group: row.shared for row in batch}
        tokens = sum(prefixes.values()) + sum(len(row.ids) - row.shared for row in batch)
        assert len(batch) == 1 or tokens <= budget + batch[0].shared


@given(groups, st.integers(1, 500))
def test_padded_batches_hold_each_row_once_within_the_budget(shapes, budget):
    rows = rows_of(shapes)
    batches = in_batches(rows, padded_batch, budget)
    assert sorted(len(row.ids) for b in batches for row in b) == sorted(len(r.ids) for r in rows)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(len(row.ids) for row in batch) <= budget


def test_the_responses_to_a_long_conversation_share_it_and_similar_lengths_share_padding():
    long = rows_of([(5000, [300] * 5), (10, [300])])
    assert packed_batch(long, 2000) == [0, 1, 2, 3, 4, 5]
    assert packed_batch(long, 1500) == [0, 1, 2, 3, 4]
    mixed = rows_of([(0, [100, 900, 101, 500, 99])])
    assert sorted(padded_batch(mixed, 320)) == [0, 2, 4]


class Model:
    """Scores a row by the sum of its ids; each batch waits until it is let through."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[list[int]]] = []
        self.begun = threading.Semaphore(0)
        self.let = threading.Semaphore(0 if held else 1_000_000)
        self.threads: set[str] = set()

    def __call__(self, rows: Sequence[Row]) -> list[float]:
        self.batches.append([row.ids for row in rows])
        self.threads.add(threading.current_thread().name)
        self.begun.release()
        assert self.let.acquire(timeout=10)
        if any(13 in row.ids for row in rows):
            raise RuntimeError("unlucky")
        return [float(sum(row.ids)) for row in rows]


def put(scorer: Scorer, *rows: list[int]) -> "Future[list[float]]":
    future: Future[list[float]] = Future()
    scorer.put(rows, 0, future)
    return future


def test_what_arrives_during_a_batch_shares_the_next():
    model = Model(held=True)
    scorer = Scorer("s", model, packed_batch, 100)
    first = put(scorer, [1])
    assert model.begun.acquire(timeout=10)
    others = [put(scorer, [i, i], [i]) for i in (2, 3)]
    model.let.release(2)
    assert [future.result(10) for future in (first, *others)] == [[1.0], [4.0, 2.0], [6.0, 3.0]]
    assert model.batches == [[[1]], [[2, 2], [2], [3, 3], [3]]]
    assert len(model.threads) == 1


def test_a_call_larger_than_a_batch_gets_its_scores_in_order():
    model = Model()
    future = put(Scorer("s", model, padded_batch, 12), *[[i] * (1 + i % 4) for i in range(12)])
    assert future.result(10) == [float(i * (1 + i % 4)) for i in range(12)]
    assert len(model.batches) == 3


def test_rows_of_a_cancelled_call_that_have_not_begun_are_dropped():
    model = Model(held=True)
    scorer = Scorer("s", model, packed_batch, 2)
    first = put(scorer, [1, 1], [2, 2])
    assert model.begun.acquire(timeout=10)
    second, third = put(scorer, [3]), put(scorer, [4])
    assert first.cancel()
    assert second.cancel()
    model.let.release(2)
    assert third.result(10) == [4.0]
    assert model.batches == [[[1, 1]], [[4]]]
    with pytest.raises(CancelledError):
        first.result(10)


def test_a_row_that_fails_fails_its_own_call_only():
    model = Model(held=True)
    scorer = Scorer("s", model, packed_batch, 100)
    put(scorer, [0])
    assert model.begun.acquire(timeout=10)
    good, bad, other = put(scorer, [1], [2]), put(scorer, [5], [13], [6]), put(scorer, [7])
    model.let.release(100)
    assert good.result(10) == [1.0, 2.0]
    assert other.result(10) == [7.0]
    with pytest.raises(RuntimeError, match="unlucky"):
        bad.result(10)
    assert [[6]] not in model.batches  # nobody waits for it any more
    assert put(scorer, [8]).result(10) == [8.0]


def test_the_queue_is_bounded_and_a_cancelled_call_stops_waiting_for_room():
    model = Model(held=True)
    scorer = Scorer("s", model, packed_batch, 10)
    running = put(scorer, [1] * 10)
    assert model.begun.acquire(timeout=10)
    waiting = [put(scorer, [1] * 10) for _ in range(AHEAD)]
    late: Future[list[float]] = Future()
    gone: Future[list[float]] = Future()
    blocked = [
        threading.Thread(target=scorer.put, args=([[2] * 5], 0, future)) for future in (late, gone)
    ]
    for thread in blocked:
        thread.start()
    blocked[0].join(0.05)
    assert all(thread.is_alive() for thread in blocked)
    gone.cancel()
    model.let.release(100)
    for thread in blocked:
        thread.join(10)
        assert not thread.is_alive()
    assert late.result(10) == [10.0]
    assert not wait([running, *waiting], timeout=10).not_done
    assert sum(row == [2] * 5 for batch in model.batches for row in batch) == 1


def test_a_call_larger_than_the_queue_is_scored_all_the_same():
    scorer = Scorer("s", Model(), packed_batch, 2)
    assert put(scorer, *[[1, 1]] * 50).result(10) == [2.0] * 50
