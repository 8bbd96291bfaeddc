"""put_rows: whatever inputs came before, the batch has the newest one's rows, in its order."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from tpo_graph.concurrency.background import run_in_background
from tpo_graph.errors import ConfigurationError
from tpo_graph.rows import BadRow, make_rows
from tpo_graph.store import Store, open_store
from tpo_graph.store.batch_rows import begin_batch, hold_batch
from tpo_graph.store.batches import read_batch
from tpo_graph.store.intake import end_rows, put_rows

Input = Sequence[tuple[int, int]]
"""Ids, and what each row's other column holds."""
INPUTS = st.lists(
    st.lists(
        st.tuples(st.integers(0, 7), st.integers(0, 1)), unique_by=lambda row: row[0], max_size=8
    ),
    min_size=1,
    max_size=4,
)


async def take_in(store: Store, name: str, rows: Input, *, chunks: int | None = None) -> None:
    """In chunks of two, as many of them as are said: a process that was killed comes no further."""
    values = [{"id": row, "prompt": f"question {row}", "note": note} for row, note in rows]
    made = list(make_rows(values))
    starts = range(0, len(made), 2)
    for start in starts[:chunks]:
        await put_rows(store, name, start, made[start : start + 2])
    if chunks is None:
        await end_rows(store, name, len(made))


async def check(store: Store, name: str, inputs: list[list[tuple[int, int]]], cut: int) -> None:
    # Every input has a row of the one before among its first.
    inputs = [[(99, 0), *rows] for rows in inputs]
    newest = inputs[-1]
    async with hold_batch(store, name, {}, {"names": {}}):
        await begin_batch(store, name, {}, {}, None, forget=True)
        for rows in inputs[:-1]:
            await take_in(store, name, rows, chunks=cut)
        await take_in(store, name, newest)
        items = [item async for item in read_batch(store, name)]
        assert [(i.row_id, i.columns["note"]) for i in items] == [(str(r), n) for r, n in newest]
        assert [i.position for i in items] == list(range(len(items)))
        # An input that comes again, and one in another order, keep the rows' runs.
        await take_in(store, name, newest)
        await take_in(store, name, [newest[0], *reversed(newest[1:])])
        again = [item async for item in read_batch(store, name)]
        assert [i.row_id for i in again] == ["99", *(i.row_id for i in reversed(items[1:]))]
        assert {i.row_id: i.run_id for i in again} == {i.row_id: i.run_id for i in items}


def test_the_newest_input_counts_whatever_was_there_before(database_url: str) -> None:
    async def work(inputs: list[list[tuple[int, int]]], cut: int) -> None:
        async with open_store(database_url) as store:
            await check(store, "b", inputs, cut)

    @settings(max_examples=15, database=None)
    @given(INPUTS, st.integers(0, 3))
    def holds(inputs: list[list[tuple[int, int]]], cut: int) -> None:
        run_in_background(work(inputs, cut))

    holds()


async def test_an_id_that_comes_twice_is_refused_across_chunks(database_url: str) -> None:
    async with open_store(database_url) as store, hold_batch(store, "b", {}, {"names": {}}):
        rows = [*make_rows(["a", "b"])]
        await put_rows(store, "b", 0, rows)
        with pytest.raises(ConfigurationError, match="two rows of the input have the id"):
            await put_rows(store, "b", 2, rows[1:])
        # A commit whose answer was lost is made again: the same rows at the same places are none.
        await put_rows(store, "b", 0, rows)


async def test_an_input_that_comes_again_writes_nothing(sqlite_url: str) -> None:
    async with open_store(sqlite_url) as store, hold_batch(store, "b", {}, {"names": {}}):
        rows = [
            *make_rows([{"prompt": f"question {n}", "x": n / 7} for n in range(50)]),
            BadRow("bad", "no"),
        ]
        await put_rows(store, "b", 0, rows)
        with store.engine.connect() as connection:
            refuse = "BEGIN SELECT RAISE(ABORT, 'written'); END"
            connection.execute(
                text(f"CREATE TRIGGER refuse BEFORE UPDATE ON tpo_batch_rows {refuse}")
            )
            connection.commit()
        await put_rows(store, "b", 0, rows)
        await end_rows(store, "b", len(rows))
