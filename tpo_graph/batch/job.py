"""A named batch: rows in, runs in a database, resumed at any time by the same call.

Rows come from `rows.py`, an `Engine` runs them, `store/batch_rows.py` remembers which run answers
which row. `output.py` reads the results back.
"""

from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Unpack

from langgraph.runtime import RunControl
from typing_extensions import TypedDict  # as the settings are

from tpo_graph.batch.engine import Engine, Job, LocalEngine
from tpo_graph.batch.progress import BatchProgress, Counting, OnProgress, progress_bar
from tpo_graph.batch.unchanged import need_unchanged
from tpo_graph.concurrency.background import sync
from tpo_graph.concurrency.callbacks import need_callable, need_plain
from tpo_graph.concurrency.outages import WAIT_SECONDS
from tpo_graph.context import TPOContext
from tpo_graph.prompts import PromptSet, load_prompts
from tpo_graph.redaction import redacted
from tpo_graph.rewards import RewardModel, as_reward_model
from tpo_graph.rows import BadRow, Row
from tpo_graph.session.session import open_session
from tpo_graph.session.setup import Setup, StoredInputs, spelled_out
from tpo_graph.session.stored import opened
from tpo_graph.stopping import need_prices
from tpo_graph.store.batch_rows import ToDos, begin_batch, hold_batch, note_error
from tpo_graph.store.intake import end_rows, put_rows

if TYPE_CHECKING:
    from tpo_graph.store import Store

_CHUNK = 1000
"""Rows stored in one transaction."""


class BatchOptions(TypedDict, total=False):
    """How the rows of a batch are run."""

    max_in_flight: int | None
    """Maximum concurrent runs, without an `engine`; None tunes it automatically."""
    wait_for_server: float
    """Seconds that a model server may be away (it refuses connections, or answers 429, 502, 503 or
    529 however often it is asked); then the batch returns with `unfinished` rows and `away`. 0: the
    rows fail. An `engine` has its own."""
    retry_failed: bool
    """Retry rows that failed, too, each from its last finished step. They may be given other
    `unchanged.LIMITS` than the batch began with."""
    fresh: bool
    """Forget what the batch has done before and start over; its runs stay stored."""
    source: str | None
    """Where the rows come from; only to be looked up later."""
    control: RunControl | None
    """Its `request_drain()` stops all runs before their next steps; the batch then returns with
    `unfinished` rows."""


class BatchInputs(BatchOptions, StoredInputs, total=False):
    """The inputs of a batch: `BatchOptions`, and those of all its runs."""


class Options(BatchOptions, total=False):
    """`BatchOptions`, and who runs the rows and is told of them, for who runs a batch."""

    engine: Engine | None
    on_progress: OnProgress | None
    progress: bool | None


USUAL = {"wait_for_server": WAIT_SECONDS, "retry_failed": False, "fresh": False}
"""Defaults of `BatchOptions`, where they are not None."""


def batch_options(inputs: Mapping[str, Any]) -> tuple[Options, dict[str, Any]]:
    """The options, of the arguments of a function that runs batches; and the others."""
    keys = BatchOptions.__annotations__.keys()
    options = Options(**{name: value for name, value in inputs.items() if name in keys})
    return options, {name: value for name, value in inputs.items() if name not in keys}


async def arun_batch(
    rows: Iterable[Row | BadRow],
    *,
    name: str,
    database: "str | Store",
    engine: Engine | None = None,
    on_progress: OnProgress | None = None,
    progress: bool | None = None,
    **inputs: Unpack[BatchInputs],
) -> BatchProgress:
    """Run every row of a batch that has not ended yet.

    The batch is known by its name and kept in the database, row by row and step by step: the same
    call again, after a crash or a stop, resumes it, and pays for no finished step twice. A row that
    fails is retried once at the end if its error may pass; it has its error in the database and
    stops no other. While a model server is away no rows begin, and those in flight wait.

    Args:
        rows: the input, as `read_rows` or `make_rows` give it. Rows that are new since the last
            call are taken up; those that are gone are left out of the output.
        name: of the batch in its database.
        database: a URL, or a store that is open already.
        engine: what runs the rows; it must have been given the same models and database. None:
            this process.
        on_progress: see `OnProgress`.
        progress: whether a bar on standard error shows how far the batch is; None: on a terminal
            and in a notebook, unless there is an `on_progress`.
        inputs: `BatchOptions`; the others as in `aoptimize`, where settings are for all rows that
            set nothing of their own.

    Raises:
        ConfigurationError: an option, a name or a prompt set is wrong; the batch was begun with
            other settings or models; or a row that has its run asks something else now.
        RunBusyError: another live process works on this batch.
        StoreError: the database failed.
    """
    need_callable("on_progress", on_progress, "progress")
    need_plain("on_progress", on_progress)
    options, others = batch_options(inputs)
    options |= Options(engine=engine, on_progress=on_progress, progress=progress)
    setup, context = Setup.given(others, database=database)
    return await run_rows(rows, name, setup, context, options)


arun_batch = spelled_out(arun_batch, USUAL)
run_batch = sync(arun_batch)
"""Run a batch and wait until all of its rows have ended."""


async def run_rows(
    rows: Iterable[Row | BadRow], name: str, setup: Setup, context: TPOContext, options: Options
) -> BatchProgress:
    """`arun_batch`, of a setup that has a database."""
    async with _means(setup, context, options, lambda said: counting.wait(said)) as means:
        store, again = means.store, options.get("retry_failed", False)
        launch, plain = _launch(setup, means), context.model_dump(mode="json")
        async with hold_batch(store, name, plain, launch) as before:
            limits: dict[str, Any] = {}
            fresh = options.get("fresh", False)
            if before is not None and not fresh:
                limits = need_unchanged(before, plain, launch, retry_failed=again)
                plain |= {limit: before["settings"].get(limit) for limit in limits}
            await begin_batch(store, name, plain, launch, options.get("source"), forget=fresh)
            await _take_in(store, name, rows)
            named = {"policy": str(setup.model), "reward_model": str(setup.reward_model)}
            models = {"critic": str(setup.critic or setup.model), **named, **means.names}
            control = options.get("control") or RunControl()
            with _told(options) as tell:
                counting = Counting(store, name, models, tell)
                await counting.begin(retry_failed=again)
                work = _Work(store, name, means.engine, counting, control, plain, limits)
                async with counting.beating():
                    await work.run_all(retry_failed=again)
                return await counting.end()


@dataclass(frozen=True)
class _Means:
    """What a batch is run with."""

    store: "Store"
    engine: Engine
    names: dict[str, str]
    """Of models and prompts, as far as this process has loaded them."""
    auditor: RewardModel | None


@asynccontextmanager
async def _means(
    setup: Setup, context: TPOContext, options: Options, on_wait: Callable[[str | None], None]
) -> AsyncGenerator[_Means]:
    if (engine := options.get("engine")) is not None:
        assert setup.database is not None
        prompts = setup.prompts
        prompt_set = prompts if isinstance(prompts, PromptSet) else load_prompts(prompts)
        names = {"prompts": f"{prompt_set.name}@{prompt_set.digest}"}
        auditor = None if setup.audit is None else as_reward_model(setup.audit)
        async with opened(setup.database, reuse_scores=setup.reuse_scores) as store:
            yield _Means(store, engine, names, auditor)
        return
    async with open_session(setup) as runs:
        assert runs.store is not None
        names = dict(runs.names)
        need_prices(context, {"policy": names["policy"], "critic": names["critic"]})
        wait, most = options.get("wait_for_server", WAIT_SECONDS), options.get("max_in_flight")
        local = LocalEngine(runs, context.width, most, wait_for_server=wait, on_wait=on_wait)
        yield _Means(runs.store, local, names, runs.auditor)


def _launch(setup: Setup, means: _Means) -> dict[str, Any]:
    """By what the batch is begun again, and what these names stand for today."""
    audit = None if means.auditor is None else redacted(means.auditor.name)
    names = {**means.names, "audit": audit}
    return {**setup.named(), "audit_fallback": setup.audit_fallback, "names": names}


@contextmanager
def _told(options: Options) -> Generator[OnProgress]:
    """A bar, where one is wanted, and what the caller wants to be told."""
    shown, told = options.get("progress"), options.get("on_progress")
    if shown is None and told is not None:
        shown = False
    with progress_bar(None, "TPO", "row", shown=shown) as bar:

        def tell(now: BatchProgress) -> None:
            words = [f"{now.failed} failed"] if now.failed else []
            words += [] if now.gain is None else [f"gain {now.gain:+.3f}"]
            bar(now.ended, now.total, ", ".join(words))
            if told is not None:
                need_plain("on_progress", told, told(now))

        yield tell


async def _take_in(store: "Store", name: str, rows: Iterable[Row | BadRow]) -> None:
    source = iter(rows)
    count = 0
    while chunk := list(islice(source, _CHUNK)):
        await put_rows(store, name, count, chunk)
        count += len(chunk)
    await end_rows(store, name, count)


@dataclass(frozen=True)
class _Work:
    """One call's work on a batch."""

    store: "Store"
    name: str
    engine: Engine
    progress: Counting
    control: RunControl
    settings: dict[str, Any]
    limits: dict[str, Any]
    """What failed rows get instead."""

    async def run_all(self, *, retry_failed: bool) -> None:
        """Run what has not ended, and once more what failed for a reason that may pass."""
        to_dos = ToDos(self.store, self.name, retry_failed=retry_failed)
        again = await self.run(to_dos, clear=retry_failed)
        if again:
            self.progress.retry(len(again))
            failed = ToDos(self.store, self.name, retry_failed=True, only=again)
            await self.run(failed, clear=True)

    async def run(self, to_dos: ToDos, *, clear: bool) -> set[int]:
        """Run rows; the positions of those that failed for a reason that may pass.

        Args:
            clear: whether a row that is answered now may have an error from before.
        """
        again: set[int] = set()
        ended = self.engine.run(_Jobs(self, to_dos), control=self.control)
        async with aclosing(ended):
            async for end in ended:
                if end.error is not None or (clear and end.stop_reason is not None):
                    await note_error(self.store, self.name, end.position, end.error)
                if end.away is not None and not self.control.drain_requested:
                    self.progress.stop(end.away)
                    self.control.request_drain("a model server is away")
                if end.error is not None and end.may_pass:
                    again.add(end.position)
                self.progress.add(end)
        return set() if self.control.drain_requested else again


class _Jobs:
    """The rows to run as an engine takes them, read as they are taken."""

    def __init__(self, work: _Work, to_dos: ToDos) -> None:
        self._work = work
        self._to_dos = to_dos

    def __len__(self) -> int:
        return len(self._to_dos)

    def __iter__(self) -> Iterator[Job]:
        for to_do in self._to_dos:
            limits = self._work.limits if to_do.failed else {}
            settings = {**self._work.settings, **to_do.settings, **limits}
            self._work.progress.start()
            yield Job(to_do.position, to_do.run_id, to_do.conversation, settings, limits)
