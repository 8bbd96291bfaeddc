"""`Benchmark`: what one benchmark is made of. Six files beside this one each describe one of the
paper's, `own.py` reads those of users.

A record of the data set becomes a row for `tpo batch`; the batch's output rows become answers,
which go to the official tool in its own format, or to the metric.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.benchmarks.outcomes import Answer, Outcomes
from tpo_graph.evaluation.benchmarks.score import Score

Record = Mapping[str, Any]
"""One entry of a data set, under the data set's own names."""


class UnusableRecordError(ValueError):
    """A record that holds no question; says why."""


@dataclass(frozen=True)
class Source:
    """Where the records are on the Hugging Face hub."""

    dataset: str
    """Id of the data set."""
    split: str
    file: str | None = None
    """Where `datasets` cannot load the data set by its id: the file in it with the records."""


@dataclass(frozen=True)
class Scoring:
    """What a person may say about how answers are scored; every metric reads what concerns it."""

    judge: str | None = None
    reward_model: str | None = None
    against: Mapping[tuple[str, str], str] | None = None
    """Other answers to compare with, by ("id", row id) or ("prompt", text)."""


Writer = Callable[[Sequence[Answer], str], str]
"""(answers, generator's name) -> the content of a file for the official tool."""


@dataclass(frozen=True)
class Benchmark:
    """One benchmark."""

    name: str
    """As on the command line."""
    title: str
    size: int | None
    """Prompts that the paper used; None for a benchmark that is not the paper's."""
    source: Source
    terms: str
    """Licence of the data."""
    metric: str
    """What `score` gives, in a few words."""
    tool: str
    """Who reads what `export` writes."""
    make_row: Callable[[Record, int], dict[str, Any]]
    """(record, its position) -> row for `tpo batch`; raises UnusableRecordError."""
    writers: Mapping[str, Writer]
    """File name extension -> what writes such a file."""
    score: Callable[[Outcomes, Scoring], Score]
    needs: Sequence[str] = field(default=())
    """Options that `score` cannot do without, such as "--judge"."""
    drawn: bool = False
    """The paper drew `size` prompts at random from a larger set."""
    data: Path | None = None
    """A file with the records; None: `source`."""
    file_named_after_generator: bool = False
    """The official tool takes the model's name from the file's."""


def json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """A file of JSON Lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def csv_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A file of comma-separated values."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([header, *rows])
    return buffer.getvalue()


def text_of(record: Record, *names: str) -> str:
    """The first of these fields that the record has, as text.

    Raises:
        UnusableRecordError: it has none of them, or no text there.
    """
    for name in names:
        if name in record:
            value = record[name]
            if isinstance(value, str) and value.strip():
                return value
            raise UnusableRecordError(f"its {name!r} is {value!r}, where text should be")
    raise UnusableRecordError(f"it has none of the fields {list(names)!r}, only {list(record)!r}")


def kept(record: Record, *names: str) -> dict[str, Any]:
    """Those of the fields that the record has, to go through the batch unchanged."""
    return {name: record[name] for name in names if name in record}


def column(answer: Answer, name: str, benchmark: str) -> Any:
    """A column that the row got from `tpo benchmark prompts`.

    Raises:
        ConfigurationError: the row lacks it.
    """
    if name not in answer.columns:
        raise ConfigurationError(
            f"row {answer.id!r} has no column {name!r}: is this the output of tpo batch for "
            f"`tpo benchmark prompts {benchmark}`? Its columns are {sorted(answer.columns)!r}."
        )
    return answer.columns[name]


def prompt_of(answer: Answer, benchmark: str) -> str:
    """What was answered, of a benchmark whose prompts are one message."""
    return str(column(answer, "prompt", benchmark))


def conversation_of(answer: Answer, benchmark: str) -> list[Turn]:
    """What was answered, as turns."""
    if "messages" not in answer.columns:
        return [Turn(role="user", content=prompt_of(answer, benchmark))]
    messages: list[Turn] = answer.columns["messages"]
    return [Turn(role=turn["role"], content=turn["content"]) for turn in messages]
