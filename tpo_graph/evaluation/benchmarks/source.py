"""Records of a data set, from the Hugging Face hub or from a file that somebody downloaded."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from tpo_graph.errors import ConfigurationError


def read_file(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON list, JSONL, CSV or Parquet file; `.gz` after it is understood.

    Raises:
        ConfigurationError: it cannot be read, or is none of these.
    """
    suffixes = path.suffixes
    packed = suffixes[-1:] == [".gz"]
    suffix = suffixes[-2] if packed and len(suffixes) > 1 else path.suffix
    if suffix not in _READERS:
        raise ConfigurationError(
            f"cannot tell what {str(path)!r} is: its name should end in one of {list(_READERS)!r}"
        )
    try:
        content = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
        records = _READERS[suffix](content)
    except (OSError, EOFError, ValueError, csv.Error) as e:
        raise ConfigurationError(f"{str(path)!r} cannot be read: {e}") from e
    if not records:
        raise ConfigurationError(f"{str(path)!r} holds no records")
    return records


def read_hub(dataset: str, split: str, file: str | None = None) -> list[dict[str, Any]]:
    """The records of a data set on the hub, kept in the cache of `datasets`.

    Args:
        dataset: its id.
        split: which part of it.
        file: a JSON file of it to read instead of what the id alone would load.

    Raises:
        ConfigurationError: `datasets` is missing, or the data set cannot be had.
    """
    try:
        import datasets  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as e:
        raise ConfigurationError(
            "data sets of the hub need datasets: pip install 'tpo-graph[data]', or give a file"
        ) from e
    try:
        if file is None:
            loaded: Any = datasets.load_dataset(dataset, split=split)
        else:
            files = f"hf://datasets/{dataset}/{file}"
            loaded = datasets.load_dataset("json", data_files=files, split="train")
    except Exception as e:  # whatever the hub, the network or the disk have to say
        raise ConfigurationError(
            f"the data set {dataset!r} cannot be loaded: {type(e).__name__}: {e}. Without a "
            "network, download it elsewhere and give the file with --file."
        ) from e
    return [dict(record) for record in loaded]


def _json(content: bytes) -> list[dict[str, Any]]:
    value: object = json.loads(content)
    if not isinstance(value, list):
        raise ValueError(f"there is no list in it, but a {type(value).__name__}")
    return [_record(number, record) for number, record in enumerate(cast("list[object]", value), 1)]


def _jsonl(content: bytes) -> list[dict[str, Any]]:
    # Not str.splitlines: a text may hold U+2028, which would end a line there.
    lines = content.decode("utf-8-sig").split("\n")
    return [_record(n, json.loads(line)) for n, line in enumerate(lines, 1) if line.strip()]


def _csv(content: bytes) -> list[dict[str, Any]]:
    text = io.StringIO(content.decode("utf-8-sig"), newline="")
    return [dict(row) for row in csv.DictReader(text, strict=True)]


def _parquet(content: bytes) -> list[dict[str, Any]]:
    try:
        from pyarrow import parquet  # pyright: ignore[reportMissingTypeStubs]
    except ImportError as e:
        raise ConfigurationError("Parquet files need pyarrow: pip install 'tpo-graph[data]'") from e
    tables: Any = parquet
    return tables.read_table(io.BytesIO(content)).to_pylist()


def _record(number: int, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"record {number} is {str(value)[:80]!r}, not an object")
    return cast("dict[str, Any]", value)


_READERS: Mapping[str, Callable[[bytes], list[dict[str, Any]]]] = {
    ".json": _json,
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".parquet": _parquet,
}
