"""Finished runs of a batch as numbers: rewards per step, the answer, what it cost.

A run contains smaller ones: its first n samples are best-of-n, its first d iterations the run of
depth d. A `View` says how much of each run to read, so that one batch serves several methods.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, pstdev
from typing import Any

from sqlalchemy import Connection, select

from tpo_graph.candidates import Candidate, best
from tpo_graph.conversation import response_key
from tpo_graph.evaluation.results import Method
from tpo_graph.store import Store
from tpo_graph.store.answers import picked
from tpo_graph.store.batches import BatchItem, read_batch
from tpo_graph.store.cache import read_candidates
from tpo_graph.store.runs import read
from tpo_graph.store.tables import UsageRow
from tpo_graph.usage import Ledger, Usage, charge, total_tokens

_AT_ONCE = 100
"""Runs read in one transaction."""


@dataclass(frozen=True)
class View:
    """How much of each run to read; all of it unless told otherwise."""

    width: int | None = None
    """Maximum number of first samples."""
    depth: int | None = None
    """Maximum number of updates."""


WHOLE = View()


@dataclass(frozen=True)
class Step:
    """The samples of one iteration."""

    rewards: tuple[float, ...]
    """Empty for an update that gave no usable response."""
    best: float
    """The highest reward up to this iteration."""
    length: float
    """Mean characters; 0 without samples."""

    @property
    def mean(self) -> float:
        """Mean reward of the samples."""
        return fmean(self.rewards)

    @property
    def spread(self) -> float:
        """Population standard deviation of the rewards."""
        return pstdev(self.rewards)


@dataclass(frozen=True)
class Finished:
    """One run, as far as its view goes."""

    row_id: str
    seed: int
    run_id: str
    response: str
    """The best response."""
    reward: float
    steps: tuple[Step, ...]
    """By iteration, from the first samples."""
    openings: tuple[str, ...]
    """Digests of the first samples, in order: do two methods begin alike?"""
    ledger: Ledger
    """What it cost, stage by stage."""

    @property
    def samples(self) -> int:
        """Responses drawn and scored."""
        return sum(len(step.rewards) for step in self.steps)

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens, without the reward model's."""
        return total_tokens(self.ledger)

    def first(self, shared: int) -> float:
        """Reward of the best of the first `shared` samples."""
        return max(self.steps[0].rewards[:shared])


@dataclass(frozen=True)
class Batch:
    """What became of one batch."""

    name: str
    seed: int
    finished: list[Finished]
    failed: int
    error: str | None
    """Of the first row that failed."""
    stuck: int = 0
    """Finished runs that ended because no rewrite could be used."""


@dataclass(frozen=True)
class Arm:
    """One method and what became of its runs, one batch per seed."""

    method: Method
    batches: Sequence[Batch]

    @property
    def runs(self) -> list[Finished]:
        """All finished runs."""
        return [run for batch in self.batches for run in batch.finished]

    @property
    def failed(self) -> int:
        """Runs without an answer."""
        return sum(batch.failed for batch in self.batches)

    @property
    def error(self) -> str | None:
        """Of the first run that failed."""
        return next((batch.error for batch in self.batches if batch.error), None)


async def read_finished(
    store: Store,
    name: str,
    seed: int,
    views: Sequence[View] = (WHOLE,),
) -> list[Batch]:
    """The finished runs of a batch, once for each view."""
    found: list[list[Finished]] = [[] for _ in views]
    failed, stuck, error = 0, 0, None
    waiting: list[BatchItem] = []

    async def flush() -> None:
        items = [(item.row_id, item.run_id) for item in waiting if item.run_id is not None]
        waiting.clear()
        for runs in await read(store, lambda c: [_views(c, item, seed, views) for item in items]):
            for kept, run in zip(found, runs, strict=True):
                kept.append(run)

    async for item in read_batch(store, name):
        if item.status == "finished":
            waiting.append(item)
            stuck += item.stop_reason == "no_usable_update"
        else:
            failed, error = failed + 1, error or item.error or f"the run is {item.status}"
        if len(waiting) == _AT_ONCE:
            await flush()
    await flush()
    return [Batch(name, seed, kept, failed, error, stuck) for kept in found]


def _views(
    connection: Connection, item: tuple[str, str], seed: int, views: Sequence[View]
) -> list[Finished]:
    row_id, run_id = item
    candidates = read_candidates(connection, run_id)
    usage = _usage(connection, run_id)
    answer = picked(connection, [run_id]).get(run_id)
    return [
        _finished(row_id, run_id, seed, candidates, usage, view, answer if view == WHOLE else None)
        for view in views
    ]


def _finished(
    row_id: str,
    run_id: str,
    seed: int,
    candidates: Sequence[Candidate],
    usage: Sequence[Any],
    view: View,
    picked: Candidate | None = None,
) -> Finished:
    depth = math.inf if view.depth is None else view.depth
    width = math.inf if view.width is None else view.width
    seen = [
        c
        for c in candidates
        if c["iteration"] <= depth and (c["iteration"] > 0 or c["position"] < width)
    ]
    of_step = {number: list(found) for number, found in groupby(seen, lambda c: c["iteration"])}
    # An update that gave nothing leaves no candidates, only what it cost.
    last = min(
        depth, max([*of_step, *(row["iteration"] for row in usage if row["stage"] == "update")])
    )
    steps: list[Step] = []
    top = -math.inf
    for number in range(int(last) + 1):
        samples = of_step.get(number, [])
        top = max([top, *(c["reward"] for c in samples)])
        length = fmean(len(c["response"]) for c in samples) if samples else 0.0
        steps.append(Step(tuple(c["reward"] for c in samples), top, length))
    drawn = sum(c["iteration"] == 0 for c in candidates)
    answer = picked or best(seen)
    return Finished(
        row_id=row_id,
        seed=seed,
        run_id=run_id,
        response=answer["response"],
        reward=answer["reward"],
        steps=tuple(steps),
        openings=tuple(response_key(c["response"]) for c in of_step[0]),
        ledger=_ledger([row for row in usage if _before(row, depth)], len(of_step[0]) / drawn),
    )


def _usage(connection: Connection, run_id: str) -> Sequence[Any]:
    counters: list[Any] = [getattr(UsageRow, name) for name in Usage.__annotations__]
    query = select(UsageRow.iteration, UsageRow.stage, *counters).where(UsageRow.run_id == run_id)
    return connection.execute(query.order_by(UsageRow.iteration)).mappings().all()


def _before(row: Any, depth: float) -> bool:
    """Whether a run of that depth has this usage: loss and gradient count to the next update."""
    return row["iteration"] < depth + (row["stage"] not in ("loss", "gradient"))


def _ledger(rows: Sequence[Any], share: float) -> Ledger:
    """The rows by stage; of the first samples, and of their scores, only a share."""
    ledger: Ledger = {}
    for row in rows:
        usage = Usage(**{name: row[name] for name in Usage.__annotations__})
        if row["iteration"] == 0 and row["stage"] in ("sample", "reward_score"):
            usage = _part(usage, share)
        ledger |= charge(ledger, row["stage"], usage)
    return ledger


def _part(usage: Usage, share: float) -> Usage:
    """What a part of the samples cost: replies in proportion, prompts by the request."""
    if share == 1 or not usage["requests"]:
        return usage
    requests = math.ceil(usage["requests"] * share)
    prompts = requests / usage["requests"]
    return {
        **usage,
        "requests": requests,
        "prompt_tokens": round(usage["prompt_tokens"] * prompts),
        "cached_tokens": round(usage["cached_tokens"] * prompts),
        "completion_tokens": round(usage["completion_tokens"] * share),
        "seconds": usage["seconds"] * share,
    }
