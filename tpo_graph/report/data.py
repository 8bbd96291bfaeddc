"""The numbers of a report: runs without their texts, and what is said of many of them.

`sources.py` makes them from stored runs; the charts, the list of queries and the page show them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from statistics import StatisticsError, correlation, fmean, quantiles, stdev
from typing import TYPE_CHECKING

from tpo_graph.costs import Bill
from tpo_graph.evaluation.results import Comparison, Estimate, Kind
from tpo_graph.evaluation.statistics import mean_of
from tpo_graph.usage import Ledger, Usage, total_tokens

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Run:
    """One run, or a row of a batch that has none, without its texts."""

    query: str
    """What was asked last, cut."""
    status: str
    """"running", "finished", "interrupted", "failed", or "waiting" for a row without a run."""
    run_id: str = ""
    row_id: str = ""
    """The row of a batch; "" outside of one."""
    stop_reason: str | None = None
    error: str | None = None
    rewards: list[list[float]] = field(default_factory=list[list[float]])
    """Of the samples, per iteration; an update may have given none."""
    lengths: list[list[int]] = field(default_factory=list[list[int]])
    """Characters, in the same shape."""
    first_length: int = 0
    """Characters of the best first sample."""
    length: int = 0
    """Characters of the best response so far."""
    usage: Ledger = field(default_factory=dict[str, Usage])
    details: "Markup | None" = None
    """The trajectory; None beyond the limit."""
    label: str = ""
    """What a person said of the answer: "good", "bad" or nothing."""
    key: str = ""
    """The same for runs of one prompt: a row of a batch, else a conversation."""
    anchor: str = ""
    """The id of its line on the page."""

    @property
    def best_so_far(self) -> list[float]:
        """The highest reward up to each iteration; -inf before the first sample that is kept."""
        return list(accumulate((max(r, default=float("-inf")) for r in self.rewards), max))

    @property
    def final(self) -> float | None:
        """Reward of the best response so far."""
        return self.best_so_far[-1] if self.rewards else None

    @property
    def first(self) -> float | None:
        """Reward of the best first sample; None when it was never scored, or was pruned."""
        return max(self.rewards[0]) if self.rewards and self.rewards[0] else None

    @property
    def gain(self) -> float | None:
        """Final reward minus that of the best first sample."""
        if self.final is None or self.first is None:
            return None
        return self.final - self.first

    @property
    def counts(self) -> bool:
        """Whether means and charts take it in: it ended with an answer, and all of it is kept."""
        return self.status == "finished" and self.first is not None

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens, the reward model's left out."""
        return total_tokens(self.usage)


@dataclass(frozen=True)
class Series:
    """Runs that belong together: a batch, a method of a comparison, or runs of one set-up."""

    name: str
    reward_model: str
    runs: list[Run]
    bill: Bill = field(default_factory=Bill)
    """Of the runs that count."""
    group: str = ""
    """The comparison that its runs belong to; "" for none. Charts are drawn per group."""

    @property
    def counted(self) -> list[Run]:
        """The runs that means and charts take in."""
        return [run for run in self.runs if run.counts]

    def mean(self, value: Callable[[Run], float | None]) -> Estimate | None:
        """Over prompts, of means over the runs of one prompt; see `evaluation.statistics`."""
        return mean_of(
            (run.key or str(place), found)
            for place, run in enumerate(self.counted)
            if (found := value(run)) is not None
        )


@dataclass(frozen=True)
class Answers:
    """The texts of a comparison, as far as its runs are in the database."""

    queries: dict[str, str] = field(default_factory=dict[str, str])
    """What was asked last, by row id."""
    texts: dict[tuple[str, str, int], str] = field(default_factory=dict[tuple[str, str, int], str])
    """By method, row id and seed."""


@dataclass(frozen=True)
class Report:
    """All that the page shows."""

    sources: list[str]
    """What the targets were, in words."""
    database: str
    """Where the runs are, without the password."""
    series: list[Series]
    comparisons: list[tuple[Comparison, Answers]]
    about: list[tuple[str, list[str]]]
    """What its runs were told: (name, all values)."""
    created_at: str
    command: str = ""
    """What the user typed."""
    version: str = ""
    """Of tpo_graph."""


def short(name: str) -> str:
    """The name of a batch or comparison, which is a path unless told otherwise."""
    return Path(name).name if Path(name).is_absolute() else name


def headline(comparison: Comparison) -> str:
    """What a comparison is, in a few words."""
    return f"{_KINDS[comparison.kind]} {short(comparison.name)}"


_KINDS: dict[Kind, str] = {
    "compare": "comparison",
    "curves": "curves of",
    "stability": "stability of",
    "grid": "width and depth of",
    "best-of-n": "best-of-N of",
}


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile of at least one value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    lower, middle, upper = quantiles(values, n=4, method="inclusive")
    return lower, middle, upper


@dataclass(frozen=True)
class Step:
    """One iteration over many runs."""

    iteration: int
    runs: int
    """Those with samples in it."""
    best: list[float]
    """Best so far of every run; one that ended earlier keeps its last."""
    means: list[float]
    """Mean reward of each run's samples of this iteration."""
    samples: list[float]
    """All rewards of this iteration."""
    spread: float | None
    """Mean over runs of the standard deviation of their samples."""


def steps(runs: Sequence[Run]) -> list[Step]:
    """Iteration by iteration, as deep as the deepest run."""
    found: list[Step] = []
    for iteration in range(max((len(run.rewards) for run in runs), default=0)):
        here = [r for run in runs if (r := run.rewards[iteration : iteration + 1]) and r[0]]
        rewards = [row[0] for row in here]
        spreads = [stdev(row) for row in rewards if len(row) > 1]
        found.append(
            Step(
                iteration=iteration,
                runs=len(rewards),
                best=[run.best_so_far[min(iteration, len(run.rewards) - 1)] for run in runs],
                means=[fmean(row) for row in rewards],
                samples=[reward for row in rewards for reward in row],
                spread=fmean(spreads) if spreads else None,
            )
        )
    return found


def pearson(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Pearson's r; None below three pairs, and when either side does not vary."""
    if len(pairs) < 3:
        return None
    xs, ys = zip(*pairs, strict=True)
    try:
        return correlation(xs, ys)
    except StatisticsError:
        return None


def within(runs: Sequence[Run]) -> list[tuple[float, float]]:
    """(length, reward) of all samples, each minus the mean of its run: queries taken out."""
    pairs: list[tuple[float, float]] = []
    for run in runs:
        samples = [
            (float(length), reward)
            for lengths, rewards in zip(run.lengths, run.rewards, strict=True)
            for length, reward in zip(lengths, rewards, strict=True)
        ]
        length, reward = (fmean(side) for side in zip(*samples, strict=True))
        pairs += [(a - length, b - reward) for a, b in samples]
    return pairs
