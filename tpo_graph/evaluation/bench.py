"""`Bench`: what all methods of a comparison share, and one stored batch per method and seed.

A batch resumes where it was, so a comparison does too: what is finished is read, not run again.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.language_models import BaseChatModel
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from tpo_graph.batch.job import BatchProgress, arun_batch
from tpo_graph.concurrency.outages import WAIT_SECONDS
from tpo_graph.context import TPOContext
from tpo_graph.conversation import Turn
from tpo_graph.costs import CostTable
from tpo_graph.errors import ConfigurationError, RunBusyError, ServerAwayError, TPOError
from tpo_graph.evaluation.finished import WHOLE, Batch, View, read_finished
from tpo_graph.evaluation.results import Method
from tpo_graph.evaluation.statistics import require_scipy
from tpo_graph.models.load import load_chat_model, model_name
from tpo_graph.prompts import PromptSet
from tpo_graph.rewards import RewardFunction, RewardModel, as_reward_model
from tpo_graph.rows import BadRow, Row
from tpo_graph.session.stored import opened
from tpo_graph.store import Store

OnProgress = Callable[[str, BatchProgress], None]
"""Called with the name of the batch that runs and how far it is."""


@dataclass(frozen=True)
class Bench:
    """Prompts, models and settings that methods share; made by `open_bench`."""

    name: str
    """First part of all batch names."""
    source: str
    """Where the rows come from, for the record."""
    rows: Sequence[Row]
    bad_rows: int
    store: Store
    model: str | BaseChatModel
    critic: str | BaseChatModel | None
    reward_model: str | RewardModel | RewardFunction
    prompts: str | PromptSet
    """TPO's own."""
    seeds: Sequence[int]
    width: int
    """Of the loop."""
    depth: int
    settings: Mapping[str, Any]
    """Fields of `TPOContext` but width, depth and seed."""
    unseeded: bool
    """The policy is given no seed: runs of a method differ by chance alone."""
    names: Mapping[str, str]
    """Of "policy", "critic" and "reward_model", as runs are stored with them."""
    costs: CostTable
    options: Mapping[str, Any]
    """Of `arun_batch`."""
    control: RunControl
    on_progress: OnProgress | None
    notes: list[str]
    """What a reader of the numbers must know; methods add to it."""

    @property
    def conversations(self) -> Mapping[str, list[Turn]]:
        """By row id."""
        return {row.id: row.conversation for row in self.rows}

    @property
    def context(self) -> TPOContext:
        """Of TPO's runs, without the seed."""
        return TPOContext.checked({**self.settings, "width": self.width, "depth": self.depth})

    def batch_name(self, method: str, seed: int) -> str:
        """The name under which the batch commands and the report find it."""
        return f"{self.name}/{method}/seed-{seed}"

    async def run(
        self,
        method: Method,
        prompts: str | PromptSet = "tpo",
        *,
        views: Sequence[View] = (WHOLE,),
        model: str | BaseChatModel | None = None,
        critic: str | BaseChatModel | None = None,
    ) -> list[list[Batch]]:
        """Run a method under every seed, or resume it.

        Args:
            method: width, depth and name.
            prompts: the prompt set.
            views: how much of each run to read.
            model: another policy than the bench's.
            critic: another critic than the bench's.

        Returns:
            For each view its batches, one per seed.

        Raises:
            TPOError: not one row was answered; anything that `arun_batch` raises.
            GraphDrained: `control` asked for a stop; the same call resumes.
            ServerAwayError: a model server was away for too long; the same call resumes.
            RunBusyError: another process works on some of the runs.
        """
        by_seed: list[list[Batch]] = []
        for seed in self.seeds:
            name = self.batch_name(method.name, seed)
            await self._batch(name, method, seed, prompts, model, critic)
            by_seed.append(await read_finished(self.store, name, seed, views))
        _refuse_nothing(method, [batches[0] for batches in by_seed])
        return [list(batches) for batches in zip(*by_seed, strict=True)]

    async def _batch(
        self,
        name: str,
        method: Method,
        seed: int,
        prompts: str | PromptSet,
        model: str | BaseChatModel | None,
        critic: str | BaseChatModel | None,
    ) -> None:
        report = self.on_progress
        settings: dict[str, Any] = {
            **self.settings,
            **method.settings,
            "width": method.width,
            "depth": method.depth,
            "seed": None if self.unseeded else seed,
        }
        progress = await arun_batch(
            self.rows,
            name=name,
            database=self.store,
            model=model or self.model,
            critic=critic or self.critic,
            reward_model=self.reward_model,
            prompts=prompts,
            source=self.source,
            on_progress=None if report is None else lambda progress: report(name, progress),
            control=self.control,
            **self.options,
            **settings,
        )
        if progress.away is not None:
            raise ServerAwayError(f"{progress.unfinished} rows of {name!r}: {progress.away}")
        if progress.unfinished and self.control.drain_requested:
            raise GraphDrained(f"{progress.unfinished} rows of {name!r} are still to be run")
        if progress.unfinished:
            raise RunBusyError(
                f"{progress.unfinished} rows of {name!r} are being worked on by other processes: "
                "run the same command when those have ended"
            )


@asynccontextmanager
async def open_bench(
    rows: Iterable[Row | BadRow],
    *,
    name: str,
    database: str | Store,
    model: str | BaseChatModel,
    reward_model: str | RewardModel | RewardFunction,
    critic: str | BaseChatModel | None = None,
    prompts: str | PromptSet = "tpo",
    seeds: Sequence[int] = (0, 1, 2),
    width: int = 5,
    depth: int = 2,
    limit: int | None = None,
    source: str = "",
    reuse_scores: bool = True,
    max_in_flight: int | None = None,
    wait_for_server: float = WAIT_SECONDS,
    retry_failed: bool = False,
    fresh: bool = False,
    costs: CostTable | None = None,
    control: RunControl | None = None,
    on_progress: OnProgress | None = None,
    **settings: Any,
) -> AsyncGenerator[Bench]:
    """Open the database and look at everything that can be wrong before a model is called.

    Args:
        rows: the prompts, as `read_rows` or `make_rows` give them. Their own width and depth are
            left out: methods would no longer be equal.
        name: of the comparison in its database; the same name resumes it.
        database: a URL, or an open store.
        model, reward_model, critic, reuse_scores: as in `aoptimize`.
        prompts: TPO's own prompt set.
        seeds: every method runs once under each.
        width, depth: of TPO and of every other loop.
        limit: maximum number of rows.
        source: where the rows come from, for the record.
        max_in_flight, wait_for_server, retry_failed, fresh: as in `arun_batch`, for every batch.
        costs: prices and sizes of the models.
        control: its `request_drain()` stops the batch that runs.
        on_progress: see `OnProgress`.
        settings: other fields of `TPOContext`. `seed=None` gives the policy no seed.

    Raises:
        ConfigurationError: no usable rows, a wrong setting or name, scipy is missing.
        StoreError: the database cannot be opened.
    """
    require_scipy()
    unseeded = "seed" in settings
    if (seed := settings.pop("seed", None)) is not None:
        raise ConfigurationError(f"seed={seed!r}: methods run under several, so give seeds=[...]")
    TPOContext.checked({**settings, "width": width, "depth": depth})
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigurationError(f"seeds={list(seeds)!r}: give one or more different numbers")
    usable, bad, notes = _usable(rows, limit)
    if unseeded:
        notes.append("The policy was given no seed: no two runs begin with the same samples.")
    policy = model_name(load_chat_model(model))
    names = {
        "policy": policy,
        "critic": policy if critic is None else model_name(load_chat_model(critic)),
        "reward_model": as_reward_model(reward_model).name,
    }
    async with opened(database, reuse_scores=reuse_scores) as store:
        yield Bench(
            name=name,
            source=source,
            rows=usable,
            bad_rows=bad,
            store=store,
            model=model,
            critic=critic,
            reward_model=reward_model,
            prompts=prompts,
            seeds=tuple(seeds),
            width=width,
            depth=depth,
            settings=settings,
            unseeded=unseeded,
            names=names,
            costs=costs or CostTable(),
            options={
                "max_in_flight": max_in_flight,
                "wait_for_server": wait_for_server,
                "retry_failed": retry_failed,
                "fresh": fresh,
            },
            control=control or RunControl(),
            on_progress=on_progress,
            notes=notes,
        )


def _usable(given: Iterable[Row | BadRow], limit: int | None) -> tuple[list[Row], int, list[str]]:
    """The rows to compare on, how many were unusable, and what a reader should know of both."""
    rows: list[Row] = []
    bad: list[BadRow] = []
    own = 0
    for row in given:
        if isinstance(row, BadRow):
            bad.append(row)
            continue
        if limit is not None and len(rows) == limit:
            break
        settings = {k: v for k, v in row.settings.items() if k not in ("width", "depth")}
        own += settings != dict(row.settings)
        rows.append(replace(row, settings=settings))
    if not rows:
        first = f" The first is wrong in this: {bad[0].error}" if bad else ""
        raise ConfigurationError(f"no prompts to compare on: {len(bad)} unusable rows.{first}")
    notes: list[str] = []
    if bad:
        notes.append(f"{len(bad)} rows could not be read; the first: {bad[0].error}")
    if own:
        notes.append(f"{own} rows have a width or depth of their own, which is not used here.")
    return rows, len(bad), notes


def _refuse_nothing(method: Method, batches: Sequence[Batch]) -> None:
    if any(batch.finished for batch in batches):
        return
    error = next((batch.error for batch in batches if batch.error), None)
    raise TPOError(
        f"{method.label}: none of its {sum(batch.failed for batch in batches)} runs was answered; "
        f"the first: {error}. Fix that, then run the same command with --retry-failed."
    )
