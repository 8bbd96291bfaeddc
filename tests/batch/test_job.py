"""run_batch: a named batch goes on where it was, whatever happened to its rows."""

from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import closing
from typing import Any

import pytest
from langgraph.runtime import RunControl

from tpo_graph.batch.engine import Done, Job
from tpo_graph.batch.job import BatchProgress, run_batch
from tpo_graph.batch.output import output_rows
from tpo_graph.concurrency.background import run_in_background
from tpo_graph.errors import RewardInputError, StoreError
from tpo_graph.rows import BadRow, make_rows
from tpo_graph.store import open_store
from tpo_graph.store.batches import list_batches, read_batch
from tpo_graph.store.cache import SqlCache
from tpo_graph.store.runs import list_runs
from tpo_graph.testing import ScriptedChatModel, draft_then_improve, prefer_longer

VALUES: list[Any] = [
    "first",
    {"prompt": "second", "id": "two", "topic": "x"},
    7,
    {"prompt": "third", "depth": 0, "width": 3},
]


class Failing:
    """A script that refuses prompts which contain one of some words."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __call__(self, messages: Any, index: int) -> str:
        if any(word in message.text for word in self.words for message in messages):
            raise RuntimeError("the provider is gone")
        return draft_then_improve(messages, index)


def policy(*words: str) -> ScriptedChatModel:
    return ScriptedChatModel(replies=Failing(*words))


def go(url: str, values: Iterable[Any] = VALUES, **options: Any) -> BatchProgress:
    options = {"model": policy(), "reward_model": prefer_longer, "width": 2, "depth": 1, **options}
    return run_batch(make_rows(values), name="b", database=url, **options)


def look(url: str) -> list[dict[str, Any]]:
    """The rows of the output."""

    async def read() -> list[dict[str, Any]]:
        async with open_store(url) as store:
            return [row async for row in output_rows(store, "b")]

    return run_in_background(read())


def change(url: str, statement: Any) -> None:
    async def work() -> None:
        async with open_store(url) as store:
            await store.writer.run(lambda connection: connection.execute(statement))

    run_in_background(work())


def test_every_row_is_answered_or_says_why_not(database_url: str) -> None:
    seen: list[BatchProgress] = []
    end = go(database_url, on_progress=seen.append)
    assert (end.total, end.done, end.failed, end.new, end.unfinished) == (4, 3, 1, 3, 0)
    assert [p.done for p in seen] == [0, 1, 2, 3, 3]
    rows = look(database_url)
    assert [row["id"] for row in rows][1] == "two"
    assert [row["response"] is not None for row in rows] == [True, True, False, True]
    assert "holds 7" in rows[2]["error"]
    assert rows[1]["topic"] == "x"
    assert (rows[3]["iteration"], rows[3]["stop_reason"]) == (0, "depth")
    assert rows[3]["usage"]["sample"]["requests"] == 1
    assert rows[0]["reward"] == len(rows[0]["response"])
    # Two rows of depth 1, one of depth 0; their gains, and all that they used.
    assert end.usage["sample"]["requests"] == 3
    assert end.usage["update"]["requests"] == 2
    assert seen[-2].usage.keys() == end.usage.keys()
    assert seen[-2].gain == end.gain > 0


def test_the_same_call_again_asks_nothing(sqlite_url: str) -> None:
    first = go(sqlite_url)
    before = look(sqlite_url)
    model = policy()
    again = go(sqlite_url, model=model)
    assert model.calls == []
    assert (again.done, again.new, again.usage) == (first.done, 0, first.usage)
    assert again.gain == first.gain
    assert look(sqlite_url) == before


def test_one_bad_row_stops_no_other_and_only_failed_rows_are_tried_again(sqlite_url: str) -> None:
    values = [f"question {n}" for n in range(6)]
    end = go(sqlite_url, values, model=policy("question 3", "question 5"))
    assert (end.done, end.failed) == (4, 2)
    assert look(sqlite_url)[3]["error"].startswith("PolicyError: ")
    again = go(sqlite_url, values)
    assert (again.done, again.failed, again.new) == (4, 2, 0)
    model = policy("question 5")
    retried = go(sqlite_url, values, model=model, retry_failed=True)
    assert (retried.done, retried.failed, retried.new) == (5, 1, 2)
    assert {m.text for messages, _ in model.calls for m in messages[:1]} >= {"question 3"}
    assert not any("question 1" in m.text for messages, _ in model.calls for m in messages)
    rows = look(sqlite_url)
    assert [row["error"] is None for row in rows] == [True] * 5 + [False]
    assert go(sqlite_url, values, retry_failed=True).done == 6


def test_a_retry_goes_on_from_the_last_finished_step(sqlite_url: str) -> None:
    end = go(sqlite_url, ["question"], model=policy("</improved_answer>"))
    # What was scored before the error is not lost.
    (row,) = look(sqlite_url)
    assert row["reward"] == len(row["response"]) > 0
    assert (row["iteration"], row["stop_reason"]) == (0, "failed")
    assert row["error"].startswith("PolicyError: ")
    assert (end.done, end.failed, end.answered_with_error) == (0, 1, 1)
    model = policy()
    end = go(sqlite_url, ["question"], model=model, retry_failed=True)
    assert (end.done, end.answered_with_error) == (1, 0)
    assert {parameters["n"] for _, parameters in model.calls} == {2}  # the update alone
    (row,) = look(sqlite_url)
    assert (row["iteration"], row["usage"]["loss"]["requests"]) == (1, 1)


def test_a_response_that_cannot_be_scored_is_left_out_and_counted(database_url: str) -> None:
    class Short:
        name = "short"

        async def score(self, conversation: Any, responses: Any) -> list[float]:
            if any("long" in response for response in responses):
                raise RewardInputError("too long")
            return [float(len(response)) for response in responses]

    def reply(messages: Any, index: int) -> str:
        if "</improved_answer>" in messages[-1].text:
            return "<improved_answer>all of these are long</improved_answer>"
        return ["a long one", "brief"][index % 2]

    model = ScriptedChatModel(replies=reply)
    end = go(database_url, ["question"], model=model, reward_model=Short())
    assert (end.done, end.failed) == (1, 0)
    (row,) = look(database_url)
    assert (row["response"], row["iteration"], row["error"]) == ("brief", 0, None)
    assert row["stop_reason"] == "no_usable_update"
    assert row["usage"]["reward_score"]["unusable"] == 1 + 2


def test_a_row_whose_samples_cannot_be_scored_draws_them_anew_when_it_is_retried(
    database_url: str,
) -> None:
    class Short:
        name = "short"

        async def score(self, conversation: Any, responses: Any) -> list[float]:
            if any(len(response) > 20 for response in responses):
                raise RewardInputError("too long")
            return [1.0 for _ in responses]

    options: dict[str, Any] = {"reward_model": Short(), "depth": 0, "max_tokens": 90}
    long = ScriptedChatModel(replies=["word " * 20])
    end = go(database_url, ["question"], model=long, **options)
    assert (end.failed, end.answered_with_error) == (1, 0)
    model = ScriptedChatModel(replies=["brief"])
    limits = {**options, "max_tokens": 5}
    end = go(database_url, ["question"], model=model, retry_failed=True, **limits)
    assert (end.done, end.failed) == (1, 0)
    (row,) = look(database_url)
    assert (row["response"], row["error"]) == ("brief", None)
    assert row["usage"]["sample"]["requests"] == 2  # the first ones were paid for, too


def test_rows_that_are_new_are_taken_up_and_those_that_are_gone_are_left_out(
    sqlite_url: str,
) -> None:
    go(sqlite_url, ["a", "b", "c"])
    model = policy()
    end = go(sqlite_url, ["new", "b", "c", "newer"], model=model)
    assert (end.total, end.done, end.new) == (4, 4, 2)
    assert [row["prompt"] for row in look(sqlite_url)] == ["new", "b", "c", "newer"]
    assert go(sqlite_url, ["a", "b"]).new == 0
    assert [row["prompt"] for row in look(sqlite_url)] == ["a", "b"]


def test_a_half_written_line_that_is_whole_later_is_answered(sqlite_url: str) -> None:
    bad = BadRow("line", "line 2 is not JSON (the last line: cut off?)")
    rows = [*make_rows(["a"]), bad]
    options: dict[str, Any] = {"model": policy(), "reward_model": prefer_longer, "depth": 0}
    assert run_batch(rows, name="b", database=sqlite_url, **options).failed == 1
    end = run_batch(make_rows(["a", "b"]), name="b", database=sqlite_url, **options)
    assert (end.total, end.done, end.failed) == (2, 2, 0)


def test_a_drained_batch_returns_with_unfinished_rows_and_begins_no_others(
    sqlite_url: str,
) -> None:
    control = RunControl()

    def stop(progress: BatchProgress) -> None:
        if progress.new == 2:
            control.request_drain()

    values = [f"question {n}" for n in range(20)]
    model = policy()
    end = go(sqlite_url, values, model=model, control=control, on_progress=stop, max_in_flight=3)
    assert end.failed == 0
    assert 2 <= end.done < 8
    assert end.unfinished == 20 - end.done
    rows = look(sqlite_url)
    assert sum(row["response"] is not None for row in rows) == end.done
    assert [row["error"] for row in rows] == 20 * [None]
    asked = len(model.calls)
    assert go(sqlite_url, values, model=model).done == 20
    assert len(model.calls) == 20 * 4
    assert asked < 8 * 4


def test_an_auditor_that_fails_leaves_the_answer_and_is_tried_again(sqlite_url: str) -> None:
    broken = [True]

    class Auditor:
        name = "auditor"

        async def score(self, conversation: Any, responses: Any) -> list[float]:
            if broken[0] and conversation[-1]["content"] == "b":
                raise ValueError("no audit today")
            return [-float(len(response)) for response in responses]

    auditor = Auditor()

    end = go(sqlite_url, ["a", "b"], audit=auditor, audit_fallback=True)
    assert (end.done, end.failed) == (1, 1)
    first, second = look(sqlite_url)
    assert first["audit"]["fell_back"]
    assert (first["iteration"], first["error"]) == (0, None)
    assert (second["audit"], second["iteration"]) == (None, 1)
    assert second["error"].startswith("audit: RewardError: ")
    broken[0] = False
    model = policy()
    again = go(
        sqlite_url, ["a", "b"], model=model, audit=auditor, audit_fallback=True, retry_failed=True
    )
    assert (again.done, again.failed) == (2, 0)
    assert model.calls == []
    assert look(sqlite_url)[1]["audit"]["overoptimized"]


def test_a_database_that_fails_ends_the_batch_and_blames_no_row(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = SqlCache.record

    async def full(self: SqlCache, run_id: str, iteration: int, stage: str, **fields: Any) -> None:
        if stage == "loss":
            raise StoreError("the disk is full")
        await record(self, run_id, iteration, stage, **fields)

    values = [f"question {n}" for n in range(5)]
    with monkeypatch.context() as patch:
        patch.setattr(SqlCache, "record", full)
        with pytest.raises(StoreError, match="the disk is full"):
            go(sqlite_url, values)
    end = go(sqlite_url, values)
    assert (end.done, end.failed) == (5, 0)


class Counting:
    """An engine that only says what it is given."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.size = 0

    async def run(self, jobs: Iterable[Job], *, control: RunControl) -> AsyncGenerator[Done]:
        self.size = len(jobs)  # type: ignore[arg-type]
        for job in jobs:
            self.jobs.append(job)
            yield Done(job.position, error="not run" if job.position < 2 else None)


def test_an_engine_is_given_complete_jobs_a_page_at_a_time(sqlite_url: str) -> None:
    engine = Counting()
    taken = 0

    def values() -> Iterator[Any]:
        nonlocal taken
        for taken in range(1, 1202):
            yield {"prompt": f"question {taken}", "width": 1 + taken % 2}

    with closing(values()) as source:
        end = go(sqlite_url, source, engine=engine, model="openai:m", reward_model="local:r")
    assert (taken, engine.size, len(engine.jobs)) == (1201, 1201, 1201)
    assert (end.failed, end.unfinished) == (2, 1199)
    assert [job.position for job in engine.jobs] == list(range(1201))
    assert len({job.run_id for job in engine.jobs}) == 1201
    job = engine.jobs[1]
    assert job.conversation == [{"role": "user", "content": "question 2"}]
    assert (job.settings["width"], job.settings["depth"]) == (1, 1)
    assert (engine.jobs[0].settings["width"], job.settings["temperature"]) == (2, 0.7)
    again = Counting()
    rows = [{"prompt": f"question {n}", "width": 1 + n % 2} for n in (1, 2, 3)]
    go(sqlite_url, rows, engine=again, model="openai:m", reward_model="local:r")
    assert [job.run_id for job in again.jobs] == [engine.jobs[2].run_id]


async def test_batches_are_listed_with_their_counts(sqlite_url: str) -> None:
    go(sqlite_url)
    run_batch(
        make_rows(["x"]),
        name="c",
        database=sqlite_url,
        model=policy(),
        reward_model=prefer_longer,
        source="c.jsonl",
        depth=0,
    )
    async with open_store(sqlite_url) as store:
        found = await list_batches(store)
        assert [(b["name"], b["total"], b["finished"], b["failed"]) for b in found] == [
            ("c", 1, 1, 0),
            ("b", 4, 3, 1),
        ]
        assert found[0]["source"] == "c.jsonl"
        assert len(await list_runs(store)) == 4
        assert [item.status async for item in read_batch(store, "b")] == [
            "finished", "finished", "failed", "finished",
        ]  # fmt: skip
