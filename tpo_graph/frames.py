"""A database as pandas data frames: a row per run, per scored response, per step, per stage.

For notebooks. Each function reads one database and closes it; none of them changes a run.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from sqlalchemy import Connection, select
from sqlalchemy.orm import aliased

from tpo_graph.concurrency.background import run_in_background
from tpo_graph.errors import ConfigurationError, instead
from tpo_graph.extras import extra
from tpo_graph.store import DEFAULT_URL, open_store
from tpo_graph.store.answers import RunAnswer, read_answers
from tpo_graph.store.labels import Label, read_labels
from tpo_graph.store.migrate import existing
from tpo_graph.store.runs import RunFilter, StoredRun, list_runs, read, settings_of
from tpo_graph.store.tables import CandidateRow, RunRow, StepRow, UsageRow
from tpo_graph.usage import Usage, total_tokens

if TYPE_CHECKING:
    import pandas

_PAGE = 500
"""Runs read in one transaction."""
_SETTINGS = ("depth", "width", "seed", "temperature", "criteria")
_RUN = (
    *("run_id", "created_at", "status", "stop_reason", "error", "query"),
    *("policy", "critic", "reward_model", "prompts", *_SETTINGS),
    *("iterations", "candidates", "first_best", "reward", "gain", "response"),
    *("requests", "tokens", "seconds", "label", "note"),
)
_CANDIDATE = (
    *("run_id", "iteration", "position", "reward", "response", "finish_reason", "reason"),
)
_STEP = (
    *("run_id", "iteration", "chosen_reward", "rejected_reward"),
    *("chosen", "rejected", "loss", "gradient"),
)
_USAGE = ("run_id", "iteration", "stage", *Usage.__annotations__)


class Which(TypedDict, total=False):
    """Which runs are meant: all fields of `store.runs.RunFilter`, None or absent for any."""

    status: str | None
    """"running", "finished", "interrupted" or "failed"."""
    model: str | None
    """Name of the policy."""
    reward_model: str | None
    """Name of the reward model, as it is stored or as it was given."""
    batch: str | None
    """Name of a batch whose rows they answer."""
    since: datetime | None
    """Begun then or later; UTC without a zone."""
    until: datetime | None
    """Begun before then."""


def runs_df(database: str = DEFAULT_URL, **which: Unpack[Which]) -> "pandas.DataFrame":
    """Runs, the oldest first: what was asked, of whom, what it gained and what it took.

    Columns: run_id, created_at (UTC), status, stop_reason, error, query, policy, critic,
    reward_model, prompts, depth, width, seed, temperature, criteria, iterations, candidates,
    first_best (reward of the best first sample), reward, gain, response, requests, tokens (prompt
    and completion, the reward model's left out), seconds (spent waiting for models), label ("good"
    or "bad") and note (what people said of the answer in `tpo view`; missing where nobody did).

    Args:
        database: its URL.
        which: only some runs, by `status`, `model`, `reward_model`, `batch`, `since`, `until`.

    Raises:
        ConfigurationError: pandas is not installed, there is no such database, or no such filter.
        StoreError: the database failed.
    """
    filters = _checked(which)

    async def work() -> list[dict[str, Any]]:
        async with open_store(existing(database)) as store:
            runs = await list_runs(store, limit=None, filters=filters)
            found: list[dict[str, Any]] = []
            for start in range(0, len(runs), _PAGE):
                page = runs[start : start + _PAGE]
                ids = [run["run_id"] for run in page]
                answers, labels = await read(
                    store, lambda c, ids=ids: (read_answers(c, ids), read_labels(c, ids))
                )
                found += [
                    {
                        **_asked(run),
                        "iterations": run["iterations"],
                        "candidates": run["candidates"],
                        **_answered(answers[run["run_id"]]),
                        **_labelled(labels.get(run["run_id"])),
                    }
                    for run in page
                ]
            return found[::-1]

    return _frame("runs_df()", _RUN, work)


def candidates_df(database: str = DEFAULT_URL, **which: Unpack[Which]) -> "pandas.DataFrame":
    """Every scored response, by run, iteration and position.

    Columns: run_id, iteration (0: first samples), position (from 0), reward, response,
    finish_reason, reason (what the reward model said). A person's label is of the run's answer
    alone, and so is in `runs_df`.

    Args:
        database, which: as in `runs_df`.

    Raises:
        ConfigurationError, StoreError: as in `runs_df`.
    """
    query = select(*(getattr(CandidateRow, name) for name in _CANDIDATE))
    order = (CandidateRow.iteration, CandidateRow.position)
    return _rows("candidates_df()", _CANDIDATE, query, CandidateRow, order, database, which)


def steps_df(database: str = DEFAULT_URL, **which: Unpack[Which]) -> "pandas.DataFrame":
    """What each iteration compared and what the critic wrote, by run and iteration.

    Columns: run_id, iteration, chosen_reward, rejected_reward, chosen, rejected (the texts), loss,
    gradient; missing where the iteration has none.

    Args:
        database, which: as in `runs_df`.

    Raises:
        ConfigurationError, StoreError: as in `runs_df`.
    """
    chosen, rejected = aliased(CandidateRow), aliased(CandidateRow)
    query = select(
        StepRow.run_id,
        StepRow.iteration,
        chosen.reward.label("chosen_reward"),
        rejected.reward.label("rejected_reward"),
        chosen.response.label("chosen"),
        rejected.response.label("rejected"),
        StepRow.loss,
        StepRow.gradient,
    )
    for role, name in ((chosen, "chosen"), (rejected, "rejected")):
        query = query.outerjoin(
            role,
            (role.run_id == StepRow.run_id)
            & (role.iteration == getattr(StepRow, f"{name}_iteration"))
            & (role.position == getattr(StepRow, f"{name}_position")),
        )
    return _rows("steps_df()", _STEP, query, StepRow, (StepRow.iteration,), database, which)


def usage_df(database: str = DEFAULT_URL, **which: Unpack[Which]) -> "pandas.DataFrame":
    """What each stage of each iteration consumed.

    Columns: run_id, iteration, stage (the node), and the counters of `tpo_graph.usage.Usage`:
    requests, prompt_tokens, cached_tokens, completion_tokens, unusable, truncated,
    score_cache_hits, seconds.

    Args:
        database, which: as in `runs_df`.

    Raises:
        ConfigurationError, StoreError: as in `runs_df`.
    """
    query = select(*(getattr(UsageRow, name) for name in _USAGE))
    order = (UsageRow.iteration, UsageRow.stage)
    return _rows("usage_df()", _USAGE, query, UsageRow, order, database, which)


def _rows(
    name: str,
    columns: Sequence[str],
    query: Any,
    table: Any,
    order: Sequence[Any],
    database: str,
    which: Which,
) -> "pandas.DataFrame":
    """A query of a table that has a `run_id`, run by run and then in the order given."""
    query = query.join(RunRow, RunRow.run_id == table.run_id).where(*_checked(which).clauses())
    query = query.order_by(RunRow.created_at, RunRow.run_id, *order)

    async def work() -> list[dict[str, Any]]:
        async with open_store(existing(database)) as store:

            def fetch(connection: Connection) -> list[dict[str, Any]]:
                return [dict(row) for row in connection.execute(query).mappings()]

            return await read(store, fetch)

    return _frame(name, columns, work)


def _frame(name: str, columns: Sequence[str], work: Callable[[], Any]) -> "pandas.DataFrame":
    with extra("data", name):
        import pandas
    return pandas.DataFrame.from_records(run_in_background(work()), columns=list(columns))


def _checked(which: Which) -> RunFilter:
    known = [field.name for field in fields(RunFilter)]
    for name in which:
        if name not in known:
            raise ConfigurationError(f"runs cannot be filtered by {name!r}; {instead(name, known)}")
    return RunFilter(**which)


def _asked(run: StoredRun) -> dict[str, Any]:
    values = settings_of(run["settings"])
    names = ("run_id", "created_at", "status", "stop_reason", "error")
    models = ("policy", "critic", "reward_model", "prompts")
    return {
        **{name: run[name] for name in (*names, *models)},  # type: ignore[literal-required]
        **{name: values.get(name) for name in _SETTINGS},
        "query": run["conversation"][-1]["content"],
    }


def _answered(answer: RunAnswer) -> dict[str, Any]:
    first, best = answer.first, answer.best
    return {
        "first_best": first and first["reward"],
        "reward": best and best["reward"],
        "gain": best["reward"] - first["reward"] if best and first else None,
        "response": best and best["response"],
        "requests": sum(usage["requests"] for usage in answer.usage.values()),
        "tokens": total_tokens(answer.usage),
        "seconds": sum(usage["seconds"] for usage in answer.usage.values()),
    }


def _labelled(label: Label | None) -> dict[str, str | None]:
    if label is None:
        return {"label": None, "note": None}
    return {"label": label["label"] or None, "note": label["note"] or None}
