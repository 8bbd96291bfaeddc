"""From targets to a `Report`: runs by id, batches, comparisons, or the newest runs of a database.

Reads stored rows only; texts become trajectories at once, and nothing else of them is kept.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import compress, count
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select

from tpo_graph.candidates import Candidate, best
from tpo_graph.context import RunOptions
from tpo_graph.costs import Bill, CostTable, Role, bill
from tpo_graph.errors import ConfigurationError, RunNotFoundError
from tpo_graph.evaluation.results import FILE, Answer, Comparison, load
from tpo_graph.report.data import Answers, Report, Run, Series, headline, short
from tpo_graph.report.render import macros
from tpo_graph.report.trajectory import facts, shown
from tpo_graph.store import Store
from tpo_graph.store.batches import BatchItem, find_batch_or_output, read_batch
from tpo_graph.store.runs import StoredRun, list_runs, read, settings_of, whole_run_id
from tpo_graph.store.tables import RunRow
from tpo_graph.store.trajectory import Trajectory, read_trajectory
from tpo_graph.usage import Ledger, add_ledgers

_PRICES = {"input_price", "cached_price", "output_price"}
_QUERY = 400
"""Characters of a query that the list keeps."""


class Reader:
    """Reads runs and counts down how many trajectories may still be shown.

    Args:
        store: where the runs are.
        limit: maximum number of trajectories; with no target, of runs.
        costs: the user's prices.
    """

    def __init__(self, store: Store, limit: int, costs: CostTable | None) -> None:
        self._store = store
        self._limit = limit
        self._left = limit
        self._costs = costs
        self._about: dict[str, dict[str, None]] = {}

    async def report(self, targets: Sequence[str]) -> Report:
        """All that the targets name.

        Raises:
            ConfigurationError: one of them names nothing, or several things.
        """
        sources: list[str] = []
        series: list[Series] = []
        comparisons: list[tuple[Comparison, Answers]] = []
        loose: list[str] = []
        for target in targets:
            if (found := _comparison(target)) is not None:
                answers = Answers()
                comparisons.append((found, answers))
                sources.append(headline(found))
                series += await self._methods(found, answers)
            else:
                name = await self._batch_name(target)
                if name is None:
                    loose.append(await self._run_id(target))
                else:
                    sources.append(f"batch {short(name)}")
                    series += await self._batch(name)
        if not targets:
            newest = await list_runs(self._store, limit=self._limit)
            loose = [run["run_id"] for run in newest]
            sources.append(_counted("newest run", len(loose)))
        elif loose:
            sources.append(_counted("run", len(loose)) if len(loose) > 1 else f"run {loose[0]}")
        series += await self._set_ups(loose)
        return Report(
            sources=sources,
            database=self._store.url,
            series=_anchored(series),
            comparisons=comparisons,
            about=[(name, list(values)) for name, values in self._about.items()],
            created_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        )

    async def _batch_name(self, target: str) -> str | None:
        """The batch of that name, or the one that writes that file."""
        batch = await find_batch_or_output(self._store, target)
        return None if batch is None else batch["name"]

    async def _batch(self, name: str) -> list[Series]:
        """The rows of a batch, in its order; those without a run say why."""
        runs = [
            (None, _row_only(item))
            if item.stored_run_id is None
            else self._run(await read_trajectory(self._store, item.stored_run_id), item)
            async for item in read_batch(self._store, name)
        ]
        return [self._made(short(name), runs)] if runs else []

    async def _run_id(self, target: str) -> str:
        """The run whose id is `target` or, alone, begins with it."""
        try:
            return await whole_run_id(self._store, target)
        except RunNotFoundError as e:
            raise ConfigurationError(
                f"{target!r} is no run and no batch in {self._store.url!r}, and no folder with a "
                f"{FILE}. `tpo runs list` lists runs; --database names another database."
            ) from e

    async def _methods(self, comparison: Comparison, answers: Answers) -> list[Series]:
        """The runs of each method that was run, as far as they are in this database.

        Args:
            answers: is filled with the texts.
        """
        wanted: dict[str, list[tuple[str, Answer]]] = {}
        for result in comparison.methods:
            for answer in result.answers:
                wanted.setdefault(answer.run_id, []).append((result.method.name, answer))
        stored = await self._stored(list(wanted))
        group = short(comparison.name)
        series: list[Series] = []
        for result in comparison.methods:
            if result.method.read_off is not None:
                continue
            runs: list[tuple[StoredRun, Run]] = []
            for answer in result.answers:
                if answer.run_id in stored:
                    found = await read_trajectory(self._store, answer.run_id)
                    runs.append(self._run(found, row_id=answer.row_id))
                    if len(answers.queries) < self._limit or answer.row_id in answers.queries:
                        answers.queries[answer.row_id] = runs[-1][1].query
                        for method, each in wanted[answer.run_id]:
                            text = _text(found["candidates"], each)
                            answers.texts[method, each.row_id, each.seed] = text
            if runs:
                series.append(replace(self._made(result.method.label, runs), group=group))
        return series

    async def _stored(self, run_ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for begin in range(0, len(run_ids), 500):
            query = select(RunRow.run_id).where(RunRow.run_id.in_(run_ids[begin : begin + 500]))
            found |= set(await read(self._store, lambda c, q=query: c.scalars(q).all()))
        return found

    async def _set_ups(self, run_ids: Sequence[str]) -> list[Series]:
        """Runs of one set-up each, named after what tells the set-ups apart."""
        groups: dict[tuple[str, ...], list[tuple[StoredRun, Run]]] = {}
        for run_id in run_ids:
            stored, run = self._run(await read_trajectory(self._store, run_id))
            groups.setdefault(_set_up(stored), []).append((stored, run))
        differing = [len(set(column)) > 1 for column in zip(*groups, strict=True)]
        return [
            self._made(", ".join(compress(key, differing)) or "Runs", group)
            for key, group in groups.items()
        ]

    def _made(self, name: str, runs: Sequence[tuple[StoredRun | None, Run]]) -> Series:
        first = next((stored for stored, _ in runs if stored is not None), None)
        if first is None:
            return Series(name, "", [run for _, run in runs])
        ledger = add_ledgers(run.usage for _, run in runs if run.counts)
        cost = run_bill(first, ledger, self._costs)
        return Series(name, first["reward_model"], [run for _, run in runs], cost)

    def _run(
        self, found: Trajectory, item: BatchItem | None = None, *, row_id: str = ""
    ) -> tuple[StoredRun, Run]:
        """A run without its texts; with its trajectory, while there is room for one."""
        run, candidates = found["run"], found["candidates"]
        last = max((c["iteration"] for c in candidates), default=-1)
        by_iteration = [
            [c for c in candidates if c["iteration"] == iteration] for iteration in range(last + 1)
        ]
        first = by_iteration[0] if by_iteration else []
        self._left -= 1
        details = None
        if self._left >= 0:
            prefix = f"t{self._limit - self._left}"
            details = macros("trajectory.html").trajectory(shown(found, prefix))
        for name, value in facts(run):
            if name not in ("run", "status", "started"):
                self._about.setdefault(name, {})[value] = None
        return run, Run(
            query=run["conversation"][-1]["content"][:_QUERY],
            status=run["status"] if item is None else item.status,
            run_id=run["run_id"],
            row_id=row_id if item is None else item.row_id,
            stop_reason=run["stop_reason"],
            error=run["error"] if item is None else item.error,
            rewards=[[c["reward"] for c in row] for row in by_iteration],
            lengths=[[len(c["response"]) for c in row] for row in by_iteration],
            first_length=len(best(first)["response"]) if first else 0,
            length=len(best(candidates)["response"]) if candidates else 0,
            usage=found["usage"],
            details=details,
            label=found["label"]["label"] if "label" in found else "",
            key=(row_id if item is None else item.row_id) or run["conversation_key"],
        )


def _text(candidates: Sequence[Candidate], answer: Answer) -> str:
    """The response that a method's answer was: read off a larger run, it is not that run's best."""
    found = (
        each["response"]
        for each in candidates
        if each["reward"] == answer.reward and len(each["response"]) == answer.length
    )
    return next(found, "")


def _anchored(series: Sequence[Series]) -> list[Series]:
    number = count(1)
    return [
        replace(each, runs=[replace(run, anchor=f"query-{next(number)}") for run in each.runs])
        for each in series
    ]


def run_bill(run: Mapping[str, Any], ledger: Ledger, costs: CostTable | None) -> Bill:
    """What a stored run, or several of one set-up, cost by its models and its own prices."""
    models: dict[Role, str] = {
        "policy": run["policy"],
        "critic": run["critic"],
        "reward_model": run["reward_model"],
    }
    stored = settings_of(run["settings"])
    own: RunOptions | None = None
    with suppress(ValidationError):  # where it is not what this version could have stored
        own = RunOptions.model_validate({name: stored[name] for name in _PRICES & stored.keys()})
    return bill(ledger, models, costs, own)


def _row_only(item: BatchItem) -> Run:
    asked = item.columns.get("prompt")
    query = asked if isinstance(asked, str) else f"row {item.row_id}"
    return Run(query[:_QUERY], item.status, row_id=item.row_id, error=item.error)


def _counted(what: str, count: int) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _set_up(run: StoredRun) -> tuple[str, ...]:
    settings = settings_of(run["settings"])
    size = f"D{settings.get('depth')}-N{settings.get('width')}"
    return (run["policy"], run["critic"], run["reward_model"], run["prompts"], size)


def _comparison(target: str) -> Comparison | None:
    path = Path(target)
    is_one = (path / FILE).is_file() if path.is_dir() else path.name == FILE and path.is_file()
    return load(path) if is_one else None
