"""What a metric found: a mean with its interval, what could not be scored, and parts of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from tpo_graph.evaluation.benchmarks.outcomes import Answer, Outcomes
from tpo_graph.evaluation.results import Estimate
from tpo_graph.evaluation.statistics import estimate, estimate_share


@dataclass(frozen=True)
class Part:
    """The metric over some of the rows."""

    rows: int
    mean: Estimate


@dataclass(frozen=True)
class Score:
    """A benchmark's result. 95% intervals over the rows: Wilson for shares, else t."""

    metric: str
    share: bool
    """The metric is a share, between 0 and 1."""
    mean: Estimate | None
    """Over the scored rows; None when there is none."""
    rows: int
    """Of the file: scored + without_score + failed + unfinished."""
    scored: int
    without_score: dict[str, str]
    """Answered, but not scored: row id -> why."""
    failed: dict[str, str]
    """Row id -> the error that `tpo batch` recorded."""
    unfinished: list[str]
    mean_if_wrong: float | None
    """Shares only: the mean if all rows without a score counted as 0."""
    length: float | None
    """Mean characters of the answers: gains by a judge or a reward model often are length."""
    tokens: float | None
    """Mean prompt and completion tokens of a run, where the output file tells."""
    parts: dict[str, dict[str, Part]] = field(default_factory=dict[str, dict[str, Part]])
    """Column -> its value -> the metric over those rows."""
    notes: dict[str, str | int | float] = field(default_factory=dict[str, str | int | float])
    """What else is worth knowing, such as the judge's name."""


def summarize(
    outcomes: Outcomes,
    values: Mapping[str, float],
    without_score: Mapping[str, str],
    *,
    metric: str,
    share: bool = False,
    parts: Sequence[str] = (),
    notes: Mapping[str, str | int | float] | None = None,
) -> Score:
    """The score from one value per scored row.

    Args:
        values: row id -> value.
        without_score: row id -> why there is none.
        parts: columns by whose values the rows are also shown apart.
    """
    interval = estimate_share if share else estimate
    scored = [answer for answer in outcomes.answers if answer.id in values]
    numbers = [values[answer.id] for answer in scored]
    tokens = [answer.tokens for answer in outcomes.answers if answer.tokens is not None]
    lengths = [len(answer.response) for answer in outcomes.answers]
    return Score(
        metric=metric,
        share=share,
        mean=interval(numbers) if numbers else None,
        rows=outcomes.rows,
        scored=len(scored),
        without_score=dict(without_score),
        failed=outcomes.failed,
        unfinished=outcomes.unfinished,
        mean_if_wrong=sum(numbers) / outcomes.rows if share and outcomes.rows else None,
        length=fmean(lengths) if lengths else None,
        tokens=fmean(tokens) if tokens else None,
        parts={name: _parts(scored, values, name, interval) for name in parts},
        notes=dict(notes or {}),
    )


def _parts(
    answers: Iterable[Answer],
    values: Mapping[str, float],
    column: str,
    interval: Callable[[Sequence[float]], Estimate],
) -> dict[str, Part]:
    groups: dict[str, list[float]] = {}
    for answer in answers:
        groups.setdefault(str(answer.columns[column]), []).append(values[answer.id])
    return {name: Part(len(group), interval(group)) for name, group in sorted(groups.items())}
