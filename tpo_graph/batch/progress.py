"""How far a batch is: counted while it runs, exact at its end."""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tpo_graph.batch.engine import Done
from tpo_graph.usage import Ledger, Usage, add_ledgers

if TYPE_CHECKING:
    from tpo_graph.store import Store


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is."""

    total: int
    """Rows of the input."""
    done: int
    """Rows that have their answer, those of earlier calls included."""
    failed: int
    """Rows that have an error, those that cannot be answered included."""
    new: int
    """Rows that this call has brought to either end."""
    seconds: float
    """Since this call began to run rows."""
    usage: Ledger = field(default_factory=dict[str, Usage])
    """Of the rows that have ended; at the end of the call, of all rows."""
    models: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names of "policy", "critic" and "reward_model", for prices."""
    gain: float | None = None
    """Mean of the final reward minus that of the best first sample, over the rows that are done."""
    answered_with_error: int = 0
    """Of the failed rows, those with a response: the best that was scored before the error. Known
    at the start and at the end of a call."""
    in_flight: int = 0
    """Rows that are being run."""
    waiting: str | None = None
    """For which model server the batch waits, until when, and why."""
    away: str | None = None
    """Why the batch stopped before its end: a model server was away for too long."""

    @property
    def ended(self) -> int:
        """Rows that have an answer or an error."""
        return self.done + self.failed

    @property
    def unfinished(self) -> int:
        """Rows that are still to be run, or were stopped."""
        return self.total - self.ended


OnProgress = Callable[[BatchProgress], None]
"""Called at the start, whenever a row has ended, when waiting for a server begins and ends, every
few seconds, and at the end. A plain function: nobody waits for an async one."""
_BEAT_SECONDS = 5.0


@contextmanager
def progress_bar(
    total: int | None, what: str, unit: str, *, shown: bool | None
) -> Generator[Callable[..., None]]:
    """A bar on standard error, a widget in a notebook: call what it gives as rows end.

    Args:
        total: how many there are, if that is known.
        shown: None where standard error is a terminal or a notebook's.

    Yields:
        A function of how many have ended so far, their total (None: as before) and a few words
        about them.
    """
    in_notebook = type(sys.stderr).__module__.startswith("ipykernel.")
    if not (sys.stderr.isatty() or in_notebook if shown is None else shown):
        yield lambda *_: None
        return
    # tqdm.auto warns of a notebook without ipywidgets, and shows a bar of text there all the same.
    if find_spec("ipywidgets") is None:
        from tqdm import tqdm
    else:
        from tqdm.auto import tqdm

    bar: Any
    with tqdm(total=total, desc=what, unit=unit) as bar:

        def show(ended: int, total: int | None = None, words: str = "") -> None:
            if total is not None:
                bar.total = total
            bar.set_postfix_str(words, refresh=False)
            bar.update(ended - bar.n)
            bar.refresh()

        yield show


class Counting:
    """Keeps the numbers of one call; what earlier calls did is read from the database."""

    def __init__(
        self, store: "Store", name: str, models: Mapping[str, str], on_progress: OnProgress
    ) -> None:
        self._store = store
        self._name = name
        self._on_progress = on_progress
        self._now = BatchProgress(total=0, done=0, failed=0, new=0, seconds=0.0, models=models)
        self._began = time.monotonic()
        self._gain = 0.0
        """Sum over the rows that are done."""

    async def begin(self, *, retry_failed: bool) -> None:
        """Count what has ended already. Failed rows that are retried count as unfinished."""
        await self._read(("finished",) if retry_failed else ("finished", "failed"))
        self._began = time.monotonic()
        self._tell()

    @asynccontextmanager
    async def beating(self) -> AsyncGenerator[None]:
        """Tell how far the batch is every few seconds inside, even when no row ends."""

        async def beat() -> None:
            while True:
                await asyncio.sleep(_BEAT_SECONDS)
                self._tell()

        task = asyncio.create_task(beat(), name="tpo-batch-progress")
        try:
            yield
        finally:
            task.cancel()

    def start(self) -> None:
        """Count a row that an engine has taken."""
        self._now = replace(self._now, in_flight=self._now.in_flight + 1)

    def wait(self, said: str | None) -> None:
        """Tell that the batch waits for a model server; None: not any more."""
        self._tell(waiting=said)

    def retry(self, count: int) -> None:
        """Count rows that failed in this call as unfinished: they are run once more."""
        self._now = replace(self._now, failed=self._now.failed - count, new=self._now.new - count)

    def stop(self, away: str) -> None:
        """Take note that the batch stops: a model server was away for too long."""
        self._now = replace(self._now, away=away)

    def add(self, end: Done) -> None:
        """Count a row that has ended, or was stopped."""
        now = self._now = replace(self._now, in_flight=self._now.in_flight - 1)
        if end.error is None and end.stop_reason is None:
            return
        done = end.error is None
        if done:
            self._gain += (end.reward or 0.0) - (end.first_best or 0.0)
        self._tell(
            new=now.new + 1,
            done=now.done + done,
            failed=now.failed + (not done),
            usage=add_ledgers([now.usage, end.usage]),
        )

    async def end(self) -> BatchProgress:
        """Recount all rows, exactly."""
        gain = self._gain
        await self._read(None)
        self._gain = gain
        return self._tell(in_flight=0, waiting=None)

    async def _read(self, ended: tuple[str, ...] | None) -> None:
        from tpo_graph.store.batches import batch_totals

        totals = await batch_totals(self._store, self._name, ended)
        self._gain = totals.gain
        self._now = replace(
            self._now,
            total=sum(totals.counts.values()),
            done=totals.counts.get("finished", 0),
            failed=0 if ended == ("finished",) else totals.counts.get("failed", 0),
            usage=totals.usage,
            answered_with_error=totals.answered_with_error,
        )

    def _tell(self, **changes: Any) -> BatchProgress:
        now = self._now = replace(self._now, seconds=time.monotonic() - self._began, **changes)
        now = self._now = replace(now, gain=self._gain / now.done if now.done else None)
        self._on_progress(now)
        return now
