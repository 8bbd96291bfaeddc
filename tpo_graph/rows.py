"""Rows of prompts, from a file or a data set: what `tpo batch` answers and `tpo compare` compares."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tpo_graph.conversation import Turn


@dataclass(frozen=True)
class Row:
    """One prompt with what came along with it."""

    id: str
    """Given in the column `id`, or made from the prompt; no two rows of a source share one."""
    conversation: list[Turn]
    """What is to be answered."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The row's own `depth`, `width` and `criteria`, over the batch's."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """All other columns, as they came; they go to the output unchanged."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be answered: it is recorded and stops no other."""

    id: str
    error: str
    columns: Mapping[str, Any] = field(default_factory=dict)


def read_rows(source: str | Path) -> Iterator[Row | BadRow]:
    """The rows of a JSONL, JSON, CSV or Parquet file, or of a `datasets` id, in their order."""
    raise NotImplementedError


def make_rows(values: Iterable[Any]) -> Iterator[Row | BadRow]:
    """Rows of values in memory: strings, `{"prompt": ...}` or `{"messages": [...]}` mappings."""
    raise NotImplementedError
