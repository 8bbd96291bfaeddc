"""What `tpo batch` shows on standard error: a bar on a terminal, a line now and then in a log."""

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self, cast

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tpo_graph.batch.progress import BatchProgress
from tpo_graph.cli.display import Console, console, loading
from tpo_graph.cli.output import say
from tpo_graph.context import RunOptions
from tpo_graph.costs import Bill, CostTable, Role, bill, ledger_table
from tpo_graph.errors import StoreError
from tpo_graph.usage import total_tokens


class BatchDisplay:
    """Progress of a batch; a context manager.

    Args:
        table, options: what a model's tokens cost, as in `costs.bill`.
        log_seconds: at least so long between two lines where there is no terminal.
        models: what is loaded first.
    """

    def __init__(
        self,
        table: CostTable | None,
        options: RunOptions,
        log_seconds: float = 10.0,
        models: Sequence[str | None] = (),
    ) -> None:
        self._table = table
        self._options = options
        self._log_seconds = log_seconds
        self._logged = float("-inf")
        self._begun = False
        self._shown: tuple[int, str | None] | None = None
        """Rows ended, and what was waited for, in the last line."""
        self._bar = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        said = f"{loading(*models)}reading rows"
        self._task = self._bar.add_task(said, total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
        if self._begun and type(error) is StoreError:
            resume = "Finished steps are kept. Run the same command again to resume."
            raise StoreError(f"{error} {resume}") from error

    def show(self, progress: BatchProgress) -> None:
        """Take note of how far the batch is."""
        self._begun = True
        ended = progress.done + progress.failed
        said = self._said(progress)
        self._bar.update(self._task, total=progress.total, completed=ended, description=said)
        now = time.monotonic()
        state = ended, progress.waiting
        changed = state != self._shown
        waits = self._shown is not None and progress.waiting != self._shown[1]
        due = waits or now - self._logged >= self._log_seconds
        if not progress.unfinished:
            due = changed
        if due and not console.is_terminal:
            self._logged, self._shown = now, state
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            say(f"{stamp} {progress.done}/{progress.total} done, {said}")

    def end(self, progress: BatchProgress) -> None:
        """Say what the batch has consumed, by stage."""
        rows = ledger_table(self._bill(progress))
        if len(rows) == 2:  # nothing but the total of nothing
            return
        table = Table(*rows[0][:2], box=None, pad_edge=False)
        for title in rows[0][2:]:
            table.add_column(title, justify="right")
        for row in rows[1:]:
            table.add_row(*row)
        # A log file has no width that would be worth cutting names for.
        wide = Console(stderr=True, highlight=False, width=200)
        (console if console.is_terminal else wide).print(table)

    def _said(self, progress: BatchProgress) -> str:
        rate = progress.new / progress.seconds if progress.seconds > 0 else 0.0
        parts = [f"{progress.failed} failed", f"{rate:.2f} q/s"]
        if progress.in_flight:
            parts.insert(1, f"{progress.in_flight} running")
        parts.append(f"{total_tokens(progress.usage):,} tokens")
        known = self._bill(progress)
        if known.cost is not None:
            parts.append(f"cost {known.cost:,.4f} {known.currency}".rstrip())
        if progress.gain is not None:
            parts.append(f"gain {progress.gain:+.3f}")
        if rate and progress.unfinished:
            parts.append(f"ETA {timedelta(seconds=round(progress.unfinished / rate))}")
        if progress.waiting:
            return f"{progress.waiting} ({', '.join(parts)})"
        return ", ".join(parts)

    def _bill(self, progress: BatchProgress) -> Bill:
        models = cast("Mapping[Role, str]", progress.models)
        return bill(progress.usage, models, self._table, self._options)
