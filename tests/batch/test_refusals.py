"""What run_batch refuses: other settings, another input, a batch that is being worked on."""

from pathlib import Path

import pytest
from sqlalchemy import update

from tests.batch.test_job import change, go, look, policy
from tpo_graph.batch.job import run_batch
from tpo_graph.errors import ConfigurationError, RunBusyError, RunNotFoundError
from tpo_graph.rows import Row, make_rows
from tpo_graph.store.leases import _machine
from tpo_graph.store.tables import BatchItemRow, BatchRow, RunRow, now
from tpo_graph.testing import prefer_longer


def test_other_settings_are_refused_and_fresh_begins_anew(sqlite_url: str) -> None:
    go(sqlite_url, ["a"], seed=1)
    model = policy()
    for options, said in [
        ({"depth": 2, "seed": 1}, "depth=1, not 2"),
        ({"seed": 2, "criteria": "brief"}, "criteria=None, not 'brief', seed=1, not 2"),
        ({"seed": 1, "prompts": "revision"}, "prompts='tpo', not 'revision'"),
        ({"seed": 1, "audit": prefer_longer}, "audit=None, not 'function:"),
        ({"seed": 1, "audit_fallback": True}, "audit_fallback=False, not True"),
        ({"seed": 1, "reward_model": lambda q, r: 1.0}, "prefer_longer"),
    ]:
        with pytest.raises(ConfigurationError, match="was begun with") as error:
            go(sqlite_url, ["a"], **{"model": model, **options})
        assert said in str(error.value)
    assert model.calls == []
    end = go(sqlite_url, ["a", "b"], model=model, depth=2, fresh=True)
    assert (end.total, end.done, end.new) == (2, 2, 2)
    assert go(sqlite_url, ["a", "b"], depth=2).new == 0


def test_another_input_or_another_question_under_an_id_is_refused(sqlite_url: str) -> None:
    go(sqlite_url, [{"id": "x", "prompt": "a", "note": 1}, "b"])
    with pytest.raises(ConfigurationError, match="none of them is among"):
        go(sqlite_url, ["other", "prompts"])
    with pytest.raises(ConfigurationError, match="row 'x' asks something else now"):
        go(sqlite_url, [{"id": "x", "prompt": "changed"}])
    with pytest.raises(ConfigurationError, match="row 'x' asks something else now"):
        go(sqlite_url, [{"id": "x", "prompt": "a", "depth": 3}])
    with pytest.raises(ConfigurationError, match="row 'x' cannot be answered now"):
        go(sqlite_url, [{"id": "x", "prompt": ""}])
    with pytest.raises(ConfigurationError, match="two rows of the input have the id 'x'"):
        run_batch(
            [*make_rows(["b"]), *2 * [Row("x", [{"role": "user", "content": "a"}])]],
            name="b",
            database=sqlite_url,
            model=policy(),
            reward_model=prefer_longer,
            width=2,
            depth=1,
        )
    # Other columns may change; nothing is asked again for them.
    assert go(sqlite_url, [{"id": "x", "prompt": "a", "note": 2}, "b"]).new == 0
    assert look(sqlite_url)[0]["note"] == 2


def test_a_second_process_is_refused_and_the_lease_of_a_dead_one_is_not(sqlite_url: str) -> None:
    go(sqlite_url, ["a"])
    owner = "another machine|1|2|x"
    change(sqlite_url, update(BatchRow).values(lease_owner=owner, lease_seen_at=now()))
    with pytest.raises(RunBusyError, match="the batch 'b' is being worked on by process 1"):
        go(sqlite_url, ["a"])
    change(sqlite_url, update(BatchRow).values(lease_owner=f"{_machine()}|1|2|x"))
    assert go(sqlite_url, ["a", "b"]).done == 2


def test_a_row_that_another_process_works_on_is_left_to_it(sqlite_url: str) -> None:
    values = ["question 1", "question 2"]
    go(sqlite_url, values, model=policy("question 2"))
    busy = {"lease_owner": "another machine|1|2|x", "lease_seen_at": now(), "error": None}
    failed = update(RunRow).where(RunRow.status == "failed")
    change(sqlite_url, failed.values(**busy, status="running"))
    change(sqlite_url, update(BatchItemRow).values(error=None))
    end = go(sqlite_url, values)
    assert (end.done, end.failed, end.unfinished) == (1, 0, 1)


def test_settings_are_checked_before_anything_is_opened(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'none.db'}"
    with pytest.raises(ConfigurationError, match="depht"):
        go(url, depht=2)
    with pytest.raises(ConfigurationError, match="interrupt_at"):
        go(url, interrupt_at="select")
    assert not (tmp_path / "none.db").exists()
    with pytest.raises(ConfigurationError, match="max_in_flight=0"):
        go(url, max_in_flight=0)
    with pytest.raises(RunNotFoundError):
        look(url)
