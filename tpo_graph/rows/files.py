"""Records of a JSONL, JSON, CSV or Parquet file or of a `datasets` id, one after the other.

The package makes rows of them. What is wrong with one record is told in its place; what is wrong
with the whole source is an error.
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tpo_graph.errors import ConfigurationError
from tpo_graph.extras import extra

PROMPTS = ("prompt", "messages")
"""Columns that a row is made of."""
_HUB_ID = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?:/([\w.-]+))?")
_BOM = b"\xef\xbb\xbf"
_WIDE = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@dataclass(frozen=True)
class Record:
    """What stands at one place of a source."""

    place: str
    """"line 7", "row 7": where a person finds it."""
    value: Any = None
    problem: str | None = None
    """Why there is no value."""
    raw: str = ""
    """What stood there instead of a value."""


def records(source: str | Path, needed: Iterable[str] = PROMPTS) -> Iterator[Record]:
    """The records of a file, of a folder that `datasets` can load, or of a `datasets` id.

    Args:
        source: path or id.
        needed: columns of which a table must have one; none at all lets every table pass.

    Raises:
        ConfigurationError: there is no such source, it cannot be read, or it has no such column.
    """
    columns = frozenset(needed)
    path = Path(source)
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".json": _json, ".csv": _csv}
    reader = {**readers, ".parquet": _parquet}.get(path.suffix.lower())
    if path.is_file() and reader is None:
        raise ConfigurationError(
            f"{str(source)!r} ends in none of .jsonl, .json, .csv and .parquet. Name it by what it "
            "contains."
        )
    if path.is_dir():
        return _data_set(str(source), "", columns)
    if path.exists() and reader is not None:
        return reader(path, columns)
    name, _, split = str(source).partition(":")
    if Path(name).is_dir() or (reader is None and _HUB_ID.fullmatch(name)):
        return _data_set(name, split, columns)
    raise ConfigurationError(
        f"there is no file {str(source)!r}. Name a .jsonl, .json, .csv or .parquet file, or a data "
        "set of the Hugging Face hub as OWNER/NAME, OWNER/NAME:SPLIT or OWNER/NAME/CONFIG:SPLIT."
    )


def _jsonl(path: Path, _: frozenset[str]) -> Iterator[Record]:
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                _refuse_wide(line, path)
                line = line.removeprefix(_BOM)
            if line.strip():
                yield _json_line(line, number)


def _json_line(line: bytes, number: int) -> Record:
    place = f"line {number}"
    try:
        return Record(place, json.loads(line.decode()))
    except UnicodeDecodeError as e:
        problem = f"is not UTF-8 text: {e.reason} {line[e.start : e.start + 4]!r}"
    except json.JSONDecodeError as e:
        cut = "" if line.endswith(b"\n") else " (the last line: cut off?)"
        problem = f"is not JSON{cut}: {e.msg.removesuffix(' at')} at column {e.colno}"
    except (RecursionError, ValueError) as e:
        problem = f"is not JSON that can be read: {e}"
    return Record(place, problem=problem, raw=line.decode("utf-8", "backslashreplace"))


def _json(path: Path, _: frozenset[str]) -> Iterator[Record]:
    with _opened(path) as file:
        data = file.read()
    _refuse_wide(data, path)
    try:
        values: Any = json.loads(data.removeprefix(_BOM).decode())
    except (UnicodeDecodeError, ValueError, RecursionError) as e:
        lines = isinstance(e, json.JSONDecodeError) and e.msg == "Extra data"
        hint = " One object per line? Then name it .jsonl." if lines else ""
        raise ConfigurationError(f"{str(path)!r} is not a JSON list: {e}.{hint}") from e
    if not isinstance(values, list):
        raise ConfigurationError(
            f"{str(path)!r} holds a {type(values).__name__}: a list of prompts is needed."
        )
    for number, value in enumerate(cast("list[Any]", values), 1):
        yield Record(f"item {number}", value)


def _csv(path: Path, needed: frozenset[str]) -> Iterator[Record]:
    with _opened(path) as file:
        _refuse_wide(file.read(2), path)
    csv.field_size_limit(2**31 - 1)
    # What is not UTF-8 becomes half characters, which the package refuses row by row.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file)
        try:
            _need(needed, reader.fieldnames or [], path)
            for values in reader:
                place = f"line {reader.line_num}"
                if None in values:
                    problem = f"has more cells than the {len(reader.fieldnames or [])} columns"
                    yield Record(place, problem=problem, raw=repr(values))
                else:
                    # CSV cannot tell an empty text from no value.
                    yield Record(place, {k: v or None for k, v in values.items()})
        except csv.Error as e:
            raise ConfigurationError(f"{str(path)!r}, line {reader.line_num}: {e}") from e


def pyarrow_and_parquet(needed_by: str) -> tuple[Any, Any]:
    """The library of Parquet files."""
    with extra("data", needed_by):
        import pyarrow
        from pyarrow import parquet
    return pyarrow, parquet


def _parquet(path: Path, needed: frozenset[str]) -> Iterator[Record]:
    arrow, library = pyarrow_and_parquet(repr(str(path)))  # now, not at the first row
    return _parquet_rows(arrow, library, path, needed)


def _parquet_rows(arrow: Any, library: Any, path: Path, needed: frozenset[str]) -> Iterator[Record]:
    number = 0
    try:
        with library.ParquetFile(path) as file:
            _need(needed, file.schema_arrow.names, path)
            for batch in file.iter_batches(batch_size=1000):
                for value in batch.to_pylist():
                    number += 1
                    yield Record(f"row {number}", value)
    except (arrow.ArrowException, OSError) as e:
        raise ConfigurationError(f"{str(path)!r}, after row {number}: {e}") from e


def _data_set(name: str, split: str, needed: frozenset[str]) -> Iterator[Record]:
    """Rows of one split of a data set: of the hub, or in a folder."""
    with extra("data", repr(name)):
        import datasets
    folder, hub = Path(name), _HUB_ID.fullmatch(name)
    try:
        if (folder / "state.json").exists() or (folder / "dataset_dict.json").exists():
            loaded: Any = datasets.load_from_disk(name)
        elif folder.is_dir() or hub is None:
            loaded = datasets.load_dataset(name)
        else:
            loaded = datasets.load_dataset(hub[1], hub[2])
    except Exception as e:
        said = str(e).strip().partition("\n")[0]
        raise ConfigurationError(f"the data set {name!r} cannot be loaded: {said}") from e
    if isinstance(loaded, dict):
        splits = cast("dict[str, Any]", loaded)
        names = [str(key) for key in splits]
        if split not in names and (split or len(names) > 1):
            raise ConfigurationError(
                f"the data set {name!r} has the splits {', '.join(names)}. Name one of them: "
                f"{name}:{names[0]}"
            )
        loaded = splits[split or names[0]]
    _need(needed, loaded.column_names, name)
    return (Record(f"row {number}", value) for number, value in enumerate(loaded, 1))


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as e:
        raise ConfigurationError(f"{str(path)!r} cannot be read: {e}") from e


def _refuse_wide(start: bytes, path: Path) -> None:
    if (encoding := _WIDE.get(start[:2])) is not None:
        raise ConfigurationError(f"{str(path)!r} is {encoding} text. Save it as UTF-8.")


def _need(needed: frozenset[str], columns: Any, source: str | Path) -> None:
    if needed and not needed & set(columns):
        names = " nor ".join(map(repr, sorted(needed, reverse=True)))
        if not columns:
            raise ConfigurationError(f"{str(source)!r} is empty: it has neither {names}.")
        raise ConfigurationError(
            f"{str(source)!r} has the columns {', '.join(map(repr, columns))}, and neither "
            f"{names}. Rename the column with the prompts."
        )
