"""A benchmark of the user's own: a TOML file beside the data, or an entry point of a package.

The file says where the records are, how a prompt is made of one, and what scores an answer; the
batch, the intervals and the counts of what failed are those of the paper's six.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from pydantic import Field

from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.benchmarks.base import (
    Benchmark,
    Record,
    Scoring,
    Source,
    UnusableRecordError,
    column,
    json_lines,
    kept,
)
from tpo_graph.evaluation.benchmarks.outcomes import Answer, Outcomes
from tpo_graph.evaluation.benchmarks.rewarded import mean_reward
from tpo_graph.evaluation.benchmarks.score import Score, summarize
from tpo_graph.files.toml import Table, read_toml
from tpo_graph.rewards.python_file import run_file

GROUP = "tpo_graph.benchmarks"
"""The entry points by which an installed package brings benchmarks: each a `Benchmark`."""
_PLACE = re.compile(r"\{(\w+)\}")
_FILES = (".json", ".jsonl", ".csv", ".parquet")
Rule = Callable[[Mapping[str, Any], str], float]
"""(the row's columns, the response) -> the score of the response."""


class Own(Table):
    """What the file says."""

    data: str
    """A file (JSON, JSONL, CSV, Parquet), from the TOML file's folder; or a data set of the hub."""
    split: str = "test"
    """Of a data set of the hub."""
    prompt: str = "{prompt}"
    """The question, with `{column}` for what a record has there."""
    id: str | None = None
    """The column that identifies a record; None: its position."""
    keep: list[str] = Field(default_factory=list)
    """Columns that go through the batch, for the scorer and for `parts`."""
    parts: list[str] = Field(default_factory=list)
    """Columns by whose values the score is also shown apart."""
    scorer: str
    """"exact", "contains", "python:FILE.py#FUNCTION", or a reward model."""
    expected: str | None = None
    """The column with the right answer, or a list of them: for "exact" and "contains"."""
    share: bool = False
    """A Python scorer gives 0 or 1, so that the mean is a share."""

    @property
    def columns(self) -> list[str]:
        """All that a row brings along for scorer and parts."""
        return [*self.keep, *self.parts, *([self.expected] if self.expected else [])]


def own_benchmark(path: Path) -> Benchmark:
    """The benchmark that a TOML file describes; its name is the file's.

    Raises:
        ConfigurationError: the file cannot be read or says something else; its scorer is not there.
    """
    form = read_toml(path, Own, "benchmark's file")
    name = path.stem
    if form.scorer in _RULES and form.expected is None:
        raise ConfigurationError(
            f'in {str(path)!r}: the scorer {form.scorer!r} needs expected = "COLUMN", the column '
            "with the right answer"
        )
    place = path.parent / form.data
    return Benchmark(
        name=name,
        title=name,
        size=None,
        source=Source(form.data, form.split),
        data=place if place.suffix.lower() in _FILES else None,
        terms="your own",
        metric=form.scorer,
        tool="JSON Lines",
        make_row=partial(_row, form, name),
        writers={".jsonl": _write},
        score=partial(_score, form, name, _rule(form, path)),
    )


def installed() -> dict[str, Benchmark]:
    """The benchmarks that installed packages bring, by name.

    Raises:
        ConfigurationError: one of them cannot be loaded, or is something else.
    """
    found: dict[str, Benchmark] = {}
    for point in entry_points(group=GROUP):
        try:
            given = point.load()
        except Exception as e:  # whatever a foreign package does
            raise ConfigurationError(
                f"the benchmark {point.name!r} ({point.value}) cannot be loaded: "
                f"{type(e).__name__}: {e}"
            ) from e
        if not isinstance(given, Benchmark):
            raise ConfigurationError(
                f"the entry point {point.name!r} of {GROUP} gives {given!r:.100}, not a Benchmark"
            )
        found[point.name] = given
    return found


def _row(form: Own, name: str, record: Record, position: int) -> dict[str, Any]:
    def filled(place: re.Match[str]) -> str:
        if record.get(place[1]) is None:
            raise UnusableRecordError(f"it has no {place[1]!r}, only {list(record)!r}")
        return str(record[place[1]])

    if missing := [column for column in form.columns if column not in record]:
        raise UnusableRecordError(f"it has no {missing[0]!r}, only {list(record)!r}")
    row_id = f"{name}-{position}" if form.id is None else str(record.get(form.id, ""))
    if not row_id:
        raise UnusableRecordError(f"it has no {form.id!r}, which identifies it")
    return {**kept(record, *form.columns), "id": row_id, "prompt": _PLACE.sub(filled, form.prompt)}


def _write(answers: Sequence[Answer], generator: str) -> str:
    return json_lines(
        {**a.columns, "id": a.id, "response": a.response, "generator": generator} for a in answers
    )


def _rule(form: Own, path: Path) -> Rule | None:
    """What scores one answer; None where a reward model does."""
    if (known := _RULES.get(form.scorer)) is not None:
        return lambda row, response: float(known(_accepted(row[str(form.expected)]), response))
    if not form.scorer.startswith("python:"):
        return None
    file, _, name = form.scorer.removeprefix("python:").partition("#")
    module, _ = run_file(path.parent / file)
    rule: Any = getattr(module, name or "score", None)
    if not callable(rule):
        raise ConfigurationError(
            f"in {str(path)!r}: {file!r} has no function {name or 'score'!r} of (row, response)"
        )
    return cast("Rule", rule)


def _score(form: Own, name: str, rule: Rule | None, outcomes: Outcomes, scoring: Scoring) -> Score:
    if rule is None or scoring.reward_model is not None:
        by = Scoring(reward_model=scoring.reward_model or form.scorer)
        return mean_reward(outcomes, by, name, tuple(form.parts))
    values: dict[str, float] = {}
    errors: dict[str, str] = {}
    for answer in outcomes.answers:
        row = {**answer.columns, **{n: column(answer, n, name) for n in form.columns}}
        try:
            values[answer.id] = float(rule(row, answer.response))
        except Exception as e:  # whatever the user's function does: the other rows are scored
            errors[answer.id] = f"{type(e).__name__}: {e}"
    share = form.share or form.scorer in _RULES
    return summarize(
        outcomes, values, errors, metric=form.scorer, share=share, parts=tuple(form.parts)
    )


def _accepted(expected: object) -> list[str]:
    given = cast("list[object]", expected) if isinstance(expected, list) else [expected]
    return [_plain(str(each)) for each in given]


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")


_RULES: Mapping[str, Callable[[list[str], str], bool]] = {
    "exact": lambda accepted, response: _plain(response) in accepted,
    "contains": lambda accepted, response: any(each in _plain(response) for each in accepted),
}
"""Case, spacing and a last full stop do not count."""
