"""Records of a data set, from the Hugging Face hub or from a file that somebody downloaded."""

from pathlib import Path
from typing import Any, cast

from tpo_graph.errors import ConfigurationError
from tpo_graph.extras import extra
from tpo_graph.rows.files import records


def read_file(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON list, JSONL, CSV or Parquet file, in their order.

    Raises:
        ConfigurationError: it cannot be read, or something in it is no record.
    """
    found: list[dict[str, Any]] = []
    for record in records(path, needed=()):
        if not isinstance(record.value, dict):
            problem = record.problem or f"is {str(record.value)[:80]!r}, not an object"
            raise ConfigurationError(f"{str(path)!r}: {record.place} {problem}")
        found.append(cast("dict[str, Any]", record.value))
    if not found:
        raise ConfigurationError(f"{str(path)!r} holds no records")
    return found


def read_hub(dataset: str, split: str, file: str | None = None) -> list[dict[str, Any]]:
    """The records of one split of a data set on the hub, kept in the cache of `datasets`; with
    `file`, those of a JSON file of it, where its id alone would load something else.

    Raises:
        ConfigurationError: `datasets` is missing, or the data set cannot be had.
    """
    with extra("data", f"{dataset!r}, of the hub,", instead=", or give a file."):
        import datasets
    library: Any = datasets
    try:
        if file is None:
            loaded = library.load_dataset(dataset, split=split)
        else:
            files = f"hf://datasets/{dataset}/{file}"
            loaded = library.load_dataset("json", data_files=files, split="train")
    except Exception as e:  # whatever the hub, the network or the disk have to say
        raise ConfigurationError(
            f"the data set {dataset!r} cannot be loaded: {type(e).__name__}: {e}. Without a "
            "network, download it elsewhere and give the file with --file."
        ) from e
    return [dict(record) for record in loaded]
