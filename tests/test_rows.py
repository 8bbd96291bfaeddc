"""Rows: every form of a source gives the same rows, and what is wrong is said where it stands."""

import contextlib
import csv
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpo_graph.errors import ConfigurationError
from tpo_graph.rows import BadRow, Row, make_rows, read_rows

VALUES: list[dict[str, Any]] = [
    {"id": "first", "prompt": "Why is the sky blue? {x} <SEP>", "topic": "physics"},
    {"prompt": "Grüße aus 北京", "topic": None, "depth": 1, "width": 3, "criteria": "brief"},
    {"prompt": "And now?", "system": "You are terse.", "topic": "a\nb"},
]


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def write_jsonl(folder: Path, *lines: bytes) -> Path:
    path = folder / "in.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def write(folder: Path, kind: str) -> Path:
    path = folder / f"in.{kind}"
    if kind == "jsonl":
        return write_jsonl(folder, *(json.dumps(value).encode() for value in VALUES))
    if kind == "json":
        path.write_text(json.dumps(VALUES), encoding="utf-8")
    names = list(dict.fromkeys(name for value in VALUES for name in value))
    if kind == "csv":
        with path.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(VALUES)
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([dict.fromkeys(names) | v for v in VALUES]), path)
    return path


def bad(row: Row | BadRow) -> str:
    assert isinstance(row, BadRow)
    return row.error


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(kind: str, tmp_path: Path) -> None:
    first, second, third = read_rows(write(tmp_path, kind))
    expected = list(make_rows(VALUES))
    found = [first, second, third]
    for row, wanted in zip(found, expected, strict=True):
        assert isinstance(row, Row)
        assert isinstance(wanted, Row)
        assert (row.id, row.conversation) == (wanted.id, wanted.conversation)
        assert row.settings == wanted.settings
        assert row.columns["topic"] == wanted.columns["topic"]
    assert first.id == "first"
    assert isinstance(second, Row)
    assert second.settings == {"depth": 1, "width": 3, "criteria": "brief"}
    assert isinstance(third, Row)
    assert third.conversation[0] == {"role": "system", "content": "You are terse."}


def test_a_data_set_is_read_from_a_folder_by_split(tmp_path: Path, monkeypatch) -> None:
    import datasets

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = datasets.Dataset.from_list([{"prompt": "One?", "n": 1}, {"prompt": "Two?", "n": 2}])
    data.save_to_disk(str(tmp_path / "one"))
    assert [row.columns["n"] for row in read_rows(tmp_path / "one")] == [1, 2]
    datasets.DatasetDict(train=data, test=data).save_to_disk(str(tmp_path / "two"))
    with pytest.raises(ConfigurationError, match="the splits train, test"):
        list(read_rows(tmp_path / "two"))
    rows = list(read_rows(f"{tmp_path / 'two'}:test"))
    assert [row.columns["n"] for row in rows] == [1, 2]


def test_a_table_of_pandas_makes_floats_of_whole_numbers_and_nan_of_nothing() -> None:
    nan = float("nan")
    first, second = make_rows(
        [{"id": 3.0, "prompt": "a", "system": nan, "depth": 2.0}, {"id": nan, "prompt": "b"}]
    )
    assert isinstance(first, Row)
    assert (first.id, first.settings) == ("3", {"depth": 2})
    assert isinstance(second, Row)
    assert len(second.id) == 16


def test_ids_are_given_or_made_from_the_prompt_and_unique() -> None:
    values = ["a", "a", {"id": 7, "prompt": "x"}, {"id": "7", "prompt": "y"}, {"prompt": "a"}]
    ids = [row.id for row in make_rows(values)]
    digest = ids[0]
    assert ids == [digest, f"{digest}-2", "7", "7-2", f"{digest}-3"]
    assert [row.id for row in make_rows(values)] == ids
    assert len({row.id for row in make_rows(["a", "a-2", {"id": f"{digest}-2", "prompt": "b"}])})
    taken = [{"id": "a-2", "prompt": "1"}, {"id": "a", "prompt": "2"}, {"id": "a", "prompt": "3"}]
    assert [row.id for row in make_rows(taken)] == ["a-2", "a", "a-3"]


def test_messages_are_openais_and_the_last_one_is_answered() -> None:
    messages = [
        {"role": "system", "content": "Be kind."},
        user("Hi"),
        {"role": "assistant", "content": None, "tool_calls": None},
        {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
    ]
    for value in ({"messages": messages}, {"prompt": messages}, {"messages": json.dumps(messages)}):
        (row,) = make_rows([value])
        assert isinstance(row, Row), row
        assert [turn["role"] for turn in row.conversation] == [
            "system", "user", "assistant", "user",
        ]  # fmt: skip
        assert row.conversation[-1]["content"] == "And now?"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "holds 7"),
        (None, "holds None"),
        (["a"], "holds"),
        ({}, "neither a prompt nor messages, but nothing"),
        ({"text": "x", "prompt": None}, "neither a prompt nor messages, but 'text'"),
        ({"prompt": ""}, "the query is empty"),
        ({"prompt": " \n"}, "the query is empty"),
        ({"prompt": 3}, "prompt=3 must be a text"),
        ({"prompt": "a", "messages": [user("b")]}, "both"),
        ({"messages": []}, "messages="),
        ({"messages": "[{"}, "not a JSON list"),
        ({"messages": ["hello"]}, "must be objects"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "not a conversation"),
        ({"messages": [{"role": "user", "content": 3}]}, "content=3"),
        ({"messages": [user("a"), {"role": "assistant", "content": "b"}]}, "nothing to answer"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "'image_url'"),
        ({"messages": [{"role": "system", "content": "a"}, user("b")], "system": "c"}, "twice"),
        ({"prompt": "a", "system": 3}, "system=3"),
        ({"prompt": "a", "depth": -1}, "depth=-1"),
        ({"prompt": "a", "depth": "deep"}, "depth='deep'"),
        ({"prompt": "a", "width": 0}, "width=0"),
        ({"prompt": "a", "criteria": 5}, "criteria=5"),
        ({"prompt": "a", "id": 1.5}, "id=1.5"),
        ({"prompt": "a", "id": True}, "id=True"),
        ({"prompt": "a\0b"}, "NUL"),
        ({"prompt": "a", "id": "x\0"}, "NUL"),
        ({"prompt": "half \ud83d"}, "not UTF-8"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_and_stops_no_other(value: Any, message: str) -> None:
    before, wrong, after = make_rows(["good", value, "fine"])
    assert message in bad(wrong)
    assert bad(wrong).startswith("item 2")
    assert isinstance(before, Row)
    assert isinstance(after, Row)
    assert wrong.id == [row.id for row in make_rows(["good", value])][1]


def test_lines_of_a_file_are_told_by_their_numbers(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path,
        b'\xef\xbb\xbf{"prompt": "with a byte order mark"}\r',
        b"",
        b'{"prompt": ',
        b"  ",
        b'{"prompt": "\xff\xfe"}',
        b"[" * 100_000,
        b'"a plain string"',
        b'{"prompt": "nul \\u0000"}',
        b'{"prompt": "half-writ',
    )
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    rows = list(read_rows(path))
    assert [isinstance(row, Row) for row in rows] == [
        True, False, False, False, True, False, False,
    ]  # fmt: skip
    assert rows[0].columns == {"prompt": "with a byte order mark"}
    errors = [bad(row) for row in rows if isinstance(row, BadRow)]
    starts = ["line 3 is not JSON", "line 5 is not UTF-8", "line 6 is not", "line 8: ", "line 9 is"]
    for error, start in zip(errors, starts, strict=True):
        assert error.startswith(start)
    assert errors[-1].endswith(
        "(the last line: cut off?): Unterminated string starting at column 12"
    )


def test_a_cell_too_many_and_bytes_that_are_no_text_in_csv(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(b'prompt,n\ngood,1\n"two\nlines",2\ntoo,many,cells\n\nb\xe4d,4\nshort\n')
    rows = list(read_rows(path))
    assert [isinstance(row, Row) for row in rows] == [True, True, False, False, True]
    assert bad(rows[2]) == "line 5 has more cells than the 2 columns"
    assert bad(rows[3]).startswith("line 7: what the user says is not UTF-8")
    assert rows[4].columns == {"prompt": "short", "n": None}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'{"prompt": "a"}', "a list of prompts is needed"),
        ("a.json", b'{"prompt": "a"}\n{"prompt": "b"}', r"name it \.jsonl"),
        ("a.json", b"[", "not a JSON list"),
        ("a.jsonl", "\ufeff{}".encode("utf-16-le"), "UTF-16"),
        ("a.csv", "\ufeffprompt".encode("utf-16-le"), "UTF-16"),
        ("a.csv", b"question,answer\na,b\n", "columns 'question', 'answer'"),
        ("a.csv", b"", "is empty: it has neither 'prompt' nor 'messages'"),
        ("a.parquet", b"PAR1", "a.parquet"),
        ("a.txt", b"hello", r"ends in none of \.jsonl"),
        ("a", b"hello", r"ends in none of"),
    ],
)
def test_a_source_that_cannot_be_read_is_one_clear_error(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        list(read_rows(tmp_path / name))


def test_no_such_source() -> None:
    for source in ("gone.jsonl", "gone/gone.jsonl", Path("gone"), "not a name"):
        with pytest.raises(ConfigurationError, match="there is no file"):
            read_rows(source)


def test_columns_are_kept_as_json_has_them() -> None:
    columns = {
        "day": datetime(2026, 1, 2),
        "nan": float("nan"),
        "list": (1, {"a": b"x"}),
        "no": None,
        "response": "kept",
    }
    (row,) = make_rows([{"prompt": "a", **columns, 5: "five"}])
    assert json.loads(json.dumps(row.columns, allow_nan=False)) == row.columns
    assert row.columns["day"] == "2026-01-02T00:00:00"
    assert row.columns["nan"] is None
    assert row.columns["response"] == "kept"
    assert row.columns["5"] == "five"


@given(st.lists(st.text(), max_size=8))
def test_any_text_is_a_row_or_a_bad_row_with_an_id_of_its_own(texts: list[str]) -> None:
    rows = list(make_rows(texts))
    assert len(rows) == len({row.id for row in rows}) == len(texts)
    for text, row in zip(texts, rows, strict=True):
        assert isinstance(row, BadRow) or row.conversation == [user(text)]


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_bad_rows(tmp_path_factory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(data)
    wide = pytest.raises(ConfigurationError, match="UTF-16")
    with wide if data[:2] in (b"\xff\xfe", b"\xfe\xff") else contextlib.nullcontext():
        assert all(row.id for row in read_rows(path))
