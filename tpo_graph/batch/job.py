"""A named batch: rows in, runs in a database, to be gone on with at any time by the same call.

Rows come from `rows.py`, an `Engine` runs them, `store/batches.py` remembers which run answers
which row. `output.py` reads the results back.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel
from langgraph.runtime import RunControl

from tpo_graph.background import run_in_background
from tpo_graph.batch.engine import Engine
from tpo_graph.prompts import PromptSet
from tpo_graph.rewards import RewardFunction, RewardModel
from tpo_graph.rows import BadRow, Row
from tpo_graph.usage import Ledger, Usage

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
    """Of all rows that have ended; exact once the call is over."""
    gain: float | None = None
    """Mean of the final reward minus that of the best first sample, over the rows that are done."""

    @property
    def unfinished(self) -> int:
        """Rows that are still to be run, or were stopped."""
        return self.total - self.done - self.failed


OnProgress = Callable[[BatchProgress], None]
"""Called at the start, whenever a row has ended, and at the end."""


def run_batch(
    rows: Iterable[Row | BadRow],
    *,
    name: str,
    database: str,
    model: str | BaseChatModel,
    reward_model: str | RewardModel | RewardFunction,
    critic: str | BaseChatModel | None = None,
    prompts: str | PromptSet = "tpo",
    reuse_scores: bool = True,
    engine: Engine | None = None,
    max_in_flight: int | None = None,
    retry_failed: bool = False,
    fresh: bool = False,
    audit: str | RewardModel | RewardFunction | None = None,
    audit_fallback: bool = False,
    source: str | None = None,
    on_progress: OnProgress | None = None,
    control: RunControl | None = None,
    **settings: Any,
) -> BatchProgress:
    """Run a batch and wait until all of its rows have ended; see `arun_batch`."""
    return run_in_background(
        arun_batch(
            rows,
            name=name,
            database=database,
            model=model,
            reward_model=reward_model,
            critic=critic,
            prompts=prompts,
            reuse_scores=reuse_scores,
            engine=engine,
            max_in_flight=max_in_flight,
            retry_failed=retry_failed,
            fresh=fresh,
            audit=audit,
            audit_fallback=audit_fallback,
            source=source,
            on_progress=on_progress,
            control=control,
            **settings,
        )
    )


async def arun_batch(
    rows: Iterable[Row | BadRow],
    *,
    name: str,
    database: "str | Store",
    model: str | BaseChatModel,
    reward_model: str | RewardModel | RewardFunction,
    critic: str | BaseChatModel | None = None,
    prompts: str | PromptSet = "tpo",
    reuse_scores: bool = True,
    engine: Engine | None = None,
    max_in_flight: int | None = None,
    retry_failed: bool = False,
    fresh: bool = False,
    audit: str | RewardModel | RewardFunction | None = None,
    audit_fallback: bool = False,
    source: str | None = None,
    on_progress: OnProgress | None = None,
    control: RunControl | None = None,
    **settings: Any,
) -> BatchProgress:
    """Run every row of a batch that has not ended yet.

    The batch is known by its name and kept in the database, row by row and step by step: the same
    call again, after a crash or a stop, goes on where it was, and pays for no finished step twice.
    A row that fails has its error in the database and stops no other.

    Args:
        rows: the input, as `read_rows` or `make_rows` give it. Rows that are new since the last
            call are taken up; those that are gone are left out of the output.
        name: of the batch in its database.
        database: a URL, or a store that is open already.
        model, reward_model, critic, prompts, reuse_scores, audit, audit_fallback: as in
            `aoptimize`.
        engine: what runs the rows; it must have been given the same models and database. None:
            this process.
        max_in_flight: how many runs at once, without an `engine`; None finds out.
        retry_failed: take up rows that failed, too, each from its last finished step.
        fresh: forget what the batch has done before and begin anew; its runs stay stored.
        source: where the rows come from; only to be looked up later.
        on_progress: see `OnProgress`.
        control: its `request_drain()` stops all runs before their next steps; the batch then
            returns with `unfinished` rows.
        settings: fields of `TPOContext`, for all rows that set nothing of their own.

    Raises:
        ConfigurationError: an option, a name or a prompt set is wrong; the batch was begun with
            other settings or models; or a row that has its run asks something else now.
        RunBusyError: another live process works on this batch.
        StoreError: the database failed.
    """
    raise NotImplementedError
