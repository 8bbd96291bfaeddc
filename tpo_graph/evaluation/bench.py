"""`Bench`: what all methods of a comparison share, and one stored batch per method and seed.

A batch resumes where it was, so a comparison does too: what is finished is read, not run again.
"""

import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Unpack

from langchain_core.language_models import BaseChatModel
from langgraph.errors import GraphDrained

from tpo_graph.batch.job import USUAL, BatchOptions, BatchProgress, Options, batch_options, run_rows
from tpo_graph.concurrency.callbacks import need_callable, need_plain
from tpo_graph.context import TPOContext
from tpo_graph.conversation import Turn
from tpo_graph.costs import CostTable
from tpo_graph.errors import ConfigurationError, RunBusyError, ServerAwayError, TPOError
from tpo_graph.evaluation.finished import WHOLE, Arm, Batch, View, read_finished
from tpo_graph.evaluation.results import Method
from tpo_graph.evaluation.statistics import require_scipy
from tpo_graph.models.load import load_chat_model, model_name
from tpo_graph.prompts import PromptSet
from tpo_graph.rewards import as_reward_model
from tpo_graph.rows import BadRow, Row
from tpo_graph.session.setup import Inputs, Setup, spelled_out
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
    setup: Setup
    """The models, and TPO's own prompts."""
    context: TPOContext
    """Of TPO's runs, without the seed."""
    seeds: Sequence[int]
    unseeded: bool
    """The policy is given no seed: runs of a method differ by chance alone."""
    names: Mapping[str, str]
    """Of "policy", "critic" and "reward_model", as runs are stored with them."""
    costs: CostTable
    options: Options
    """Of all batches."""
    on_progress: OnProgress | None
    notes: list[str]
    """What a reader of the numbers must know; methods add to it."""

    @property
    def conversations(self) -> Mapping[str, list[Turn]]:
        """By row id."""
        return {row.id: row.conversation for row in self.rows}

    @property
    def width(self) -> int:
        """Of the loop."""
        return self.context.width

    @property
    def depth(self) -> int:
        """Of the loop."""
        return self.context.depth

    async def run(
        self,
        method: Method,
        prompts: str | PromptSet = "tpo",
        *,
        views: Sequence[View] = (WHOLE,),
        model: str | BaseChatModel | None = None,
        critic: str | BaseChatModel | None = None,
    ) -> list[Arm]:
        """Run a method under every seed, or resume it; an arm for each view of the runs.

        Policy and critic are the bench's, unless others are given.

        Raises:
            TPOError: not one row was answered; anything that `arun_batch` raises.
            GraphDrained: the options' `control` asked for a stop; the same call resumes.
            ServerAwayError: a model server was away for too long; the same call resumes.
            RunBusyError: another process works on some of the runs.
        """
        setup = replace(self.setup, prompts=prompts, database=self.store)
        setup = replace(setup, model=model or setup.model, critic=critic or setup.critic)
        by_seed: list[list[Batch]] = []
        for seed in self.seeds:
            name = f"{self.name}/{method.name}/seed-{seed}"
            await self._batch(name, method, None if self.unseeded else seed, setup)
            by_seed.append(await read_finished(self.store, name, seed, views))
        arms = [Arm(method, batches) for batches in zip(*by_seed, strict=True)]
        if not arms[0].runs:
            raise TPOError(
                f"{method.label}: none of its {arms[0].failed} runs was answered; the first: "
                f"{arms[0].error}. Fix that, then run the same command with --retry-failed."
            )
        return arms

    async def _batch(self, name: str, method: Method, seed: int | None, setup: Setup) -> None:
        own = {"width": method.width, "depth": method.depth, "seed": seed}
        shared = self.context.model_dump(exclude_unset=True)
        context = TPOContext.checked({**shared, **method.settings, **own})
        report = self.on_progress

        def tell(progress: BatchProgress) -> None:
            if report is not None:
                need_plain("on_progress", report, report(name, progress))

        # A bar for each method and seed is too much for a notebook, which keeps them all.
        told = (
            Options(progress=sys.stderr.isatty()) if report is None else Options(on_progress=tell)
        )
        options = self.options | told
        progress = await run_rows(self.rows, name, setup, context, options)
        if progress.away is not None:
            raise ServerAwayError(f"{progress.unfinished} rows of {name!r}: {progress.away}")
        control = options.get("control")
        if progress.unfinished and control is not None and control.drain_requested:
            raise GraphDrained(f"{progress.unfinished} rows of {name!r} are still to be run")
        if progress.unfinished:
            raise RunBusyError(
                f"{progress.unfinished} rows of {name!r} are being worked on by other processes: "
                "run the same command when those have ended"
            )


class BenchInputs(BatchOptions, Inputs, total=False):
    """The inputs of all runs of a comparison, and `BatchOptions` of all its batches."""


@asynccontextmanager
async def open_bench(
    rows: Iterable[Row | BadRow],
    *,
    name: str,
    seeds: Sequence[int] = (0, 1, 2),
    limit: int | None = None,
    costs: CostTable | None = None,
    on_progress: OnProgress | None = None,
    **inputs: Unpack[BenchInputs],
) -> AsyncGenerator[Bench]:
    """Open the database and look at everything that can be wrong before a model is called.

    Args:
        rows: the prompts, as `read_rows` or `make_rows` give them. Their own width and depth are
            left out: methods would no longer be equal.
        name: of the comparison in its database; the same name resumes it.
        seeds: every method runs once under each.
        limit: maximum number of rows.
        costs: prices and sizes of the models.
        on_progress: see `OnProgress`.
        inputs: as in `aoptimize`, with a database; `prompts`, `width` and `depth` are TPO's own.
            `seed=None` gives the policy no seed. And `BatchOptions`.

    Raises:
        ConfigurationError: no usable rows, a wrong setting or name, scipy is missing.
        StoreError: the database cannot be opened.
    """
    need_callable("on_progress", on_progress, "name, progress")
    need_plain("on_progress", on_progress)
    require_scipy()
    options, others = batch_options(inputs)
    unseeded = "seed" in others
    setup, context = _given(others, seeds)
    usable, bad, notes = _usable(rows, limit)
    if unseeded:
        notes.append("The policy was given no seed: no two runs begin with the same samples.")
    names = _names(setup)
    assert setup.database is not None
    async with opened(setup.database, reuse_scores=setup.reuse_scores) as store:
        yield Bench(
            name=name,
            source=options.get("source") or "",
            rows=usable,
            bad_rows=bad,
            store=store,
            setup=setup,
            context=context,
            seeds=tuple(seeds),
            unseeded=unseeded,
            names=names,
            costs=costs or CostTable(),
            options=options,
            on_progress=on_progress,
            notes=notes,
        )


open_bench = spelled_out(open_bench, USUAL)


def _given(inputs: dict[str, Any], seeds: Sequence[int]) -> tuple[Setup, TPOContext]:
    """What is run, once it is clear that methods can be compared on it."""
    if (seed := inputs.pop("seed", None)) is not None:
        raise ConfigurationError(f"seed={seed!r}: methods run under several, so give seeds=[...]")
    setup, context = Setup.given(inputs)
    if setup.audit_fallback:
        raise ConfigurationError(
            "audit_fallback=True would change the answers that are compared: leave it out"
        )
    if setup.database is None:
        raise ConfigurationError("database=None: the runs of a comparison are kept in a database")
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigurationError(f"seeds={list(seeds)!r}: give one or more different numbers")
    return setup, context


def _names(setup: Setup) -> dict[str, str]:
    policy = model_name(load_chat_model(setup.model))
    return {
        "policy": policy,
        "critic": policy if setup.critic is None else model_name(load_chat_model(setup.critic)),
        "reward_model": as_reward_model(setup.reward_model).name,
    }


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
