"""A database as data frames: the numbers are those of the results, and filters narrow all alike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from tpo_graph import (
    TPOResult,
    candidates_df,
    make_rows,
    optimize,
    run_batch,
    runs_df,
    steps_df,
    usage_df,
)
from tpo_graph.errors import ConfigurationError
from tpo_graph.store.labels import write_label
from tpo_graph.testing import ScriptedChatModel, prefer_longer

FRAMES: list[Callable[..., Any]] = [runs_df, candidates_df, steps_df, usage_df]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('frames') / 'tpo.db'}"


@pytest.fixture(scope="module")
def results(database: str) -> list[TPOResult]:
    """Two runs of their own, and then a batch of three rows."""
    run: Any = {
        "model": ScriptedChatModel(),
        "reward_model": prefer_longer,
        "database": database,
        "depth": 1,
        "width": 2,
    }
    found = [optimize(query, **run) for query in ("One?", "Two?")]
    run_batch(make_rows([{"prompt": f"Row {n}?"} for n in range(3)]), name="rows", **run)
    return found


def test_a_run_s_row_says_what_its_result_says(database: str, results: list[TPOResult]):
    frame = runs_df(database)
    assert list(frame["query"])[:2] == ["One?", "Two?"]
    for row, result in zip(frame.to_dict("records"), results, strict=False):
        assert (row["run_id"], row["response"]) == (result.run_id, result.response)
        for name in ("reward", "first_best", "gain", "tokens", "stop_reason"):
            assert row[name] == getattr(result, name)
        assert (row["depth"], row["width"], row["candidates"]) == (1, 2, len(result.candidates))


def test_candidates_steps_and_usage_are_those_of_the_runs(database: str, results: list[TPOResult]):
    candidates, steps, usage = (read(database) for read in FRAMES[1:])
    for result in results:
        mine = candidates[candidates["run_id"] == result.run_id]
        assert list(mine["response"]) == [c["response"] for c in result.candidates]
        step = steps[steps["run_id"] == result.run_id].iloc[0]
        assert (step["chosen"], step["loss"]) == (
            result.steps[0].get("chosen", {}).get("response"),
            result.steps[0].get("loss"),
        )
        spent = usage[(usage["run_id"] == result.run_id) & (usage["stage"] == "update")]
        assert spent["completion_tokens"].sum() == result.usage["update"]["completion_tokens"]


def test_what_people_said_of_the_answers_is_in_their_runs_rows(
    database: str, results: list[TPOResult]
):
    engine = create_engine(database)
    write_label(engine, results[0].run_id, "good", "Use this one.")
    write_label(engine, results[1].run_id, "", "Undecided.")
    engine.dispose()
    frame = runs_df(database)[["label", "note"]]
    assert list(frame["label"].fillna("-")) == ["good", "-", "-", "-", "-"]
    assert list(frame["note"].fillna("-")) == ["Use this one.", "Undecided.", "-", "-", "-"]


@pytest.mark.parametrize("read", FRAMES)
def test_filters_choose_the_runs_of_every_frame(
    read: Callable[..., Any], database: str, results: list[TPOResult]
):
    mine = set(read(database, batch="rows")["run_id"])
    assert len(mine) == 3
    assert mine.isdisjoint(result.run_id for result in results)
    nothing = read(database, status="failed")
    assert len(nothing) == 0
    assert list(nothing.columns) == list(read(database).columns)


def test_what_cannot_be_read_is_one_clear_error(database: str, tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"'batches'; did you mean 'batch'\?"):
        runs_df(database, batches="rows")  # pyright: ignore[reportCallIssue]
    missing = tmp_path / "missing.db"
    with pytest.raises(ConfigurationError, match="no tpo_graph database is there"):
        candidates_df(f"sqlite:///{missing}")
    assert not missing.exists()
