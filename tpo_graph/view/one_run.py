"""One run as its page shows it while it runs: what it is doing, what it took, its trajectory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, select

from tpo_graph.candidates import best
from tpo_graph.costs import CostTable
from tpo_graph.report.sources import run_bill
from tpo_graph.report.trajectory import Shown, shown
from tpo_graph.report.wording import duration, money, number, short_name
from tpo_graph.store.cache import read_usage
from tpo_graph.store.reading import Readable
from tpo_graph.store.runs import read
from tpo_graph.store.tables import RunRow, UsageRow
from tpo_graph.store.trajectory import Trajectory, answer, read_trajectory
from tpo_graph.usage import Usage, total_tokens
from tpo_graph.view.listing import size_of, state_of

_FOLLOWS = {
    "": "writing drafts",
    "sample": "scoring drafts",
    "reward_score": "comparing the best with the worst",
    "loss": "writing instructions",
    "gradient": "writing revisions",
    "update": "scoring revisions",
}
"""What is being done once a step is stored."""
_OTHERS = 20
"""Other runs of the same query that are named."""


@dataclass(frozen=True)
class Watched:
    """All that the page says of a run."""

    shown: Shown
    found: Trajectory
    state: str
    """One of `listing.STATES`."""
    doing: str
    """What happens, or how it ended."""
    facts: list[tuple[str, str, str]]
    """(what, value, remark)."""
    spent: list[tuple[int, str, Usage]]
    """(iteration, stage, usage), in the order of the work."""
    others: list[str] = field(default_factory=list[str])
    """Ids of other runs of this query, the newest first."""


async def watched(
    store: Readable, run_id: str, costs: CostTable | None, prefix: str = "sample"
) -> Watched:
    """One run.

    Args:
        prefix: begins the ids of its samples on the page.

    Raises:
        RunNotFoundError: no such run is stored.
    """
    found = await read_trajectory(store, run_id)
    run = found["run"]
    spent, seen_at, others = await read(
        store, lambda connection: _beside(connection, run_id, run["conversation_key"])
    )
    state = state_of(run["status"], seen_at)
    return Watched(
        shown=shown(found, prefix),
        found=found,
        state=state,
        doing=_doing(found, state, spent),
        facts=_facts(found, spent, costs),
        spent=spent,
        others=others,
    )


def run_pulse(connection: Connection, run_id: str) -> object:
    """Equal as long as the run has stored no step, and has neither ended nor fallen silent."""
    row = select(
        RunRow.status, RunRow.lease_seen_at, RunRow.stop_reason, RunRow.updated_at,
        RunRow.lease_owner,
    )  # fmt: skip
    steps = select(func.count(), func.sum(UsageRow.requests)).where(UsageRow.run_id == run_id)
    run = connection.execute(row.where(RunRow.run_id == run_id)).one_or_none()
    stored = tuple(connection.execute(steps).one())
    return run and (state_of(run[0], run[1]), *run[2:]), stored


def _beside(
    connection: Connection, run_id: str, conversation_key: str
) -> tuple[list[tuple[int, str, Usage]], Any, list[str]]:
    each = UsageRow.iteration, UsageRow.stage
    spent = list(read_usage(connection, each, UsageRow.run_id == run_id))
    order = list(_FOLLOWS)
    spent.sort(key=lambda each: (each[0], _place(order, each[1])))
    seen = connection.scalar(select(RunRow.lease_seen_at).where(RunRow.run_id == run_id))
    same = select(RunRow.run_id).where(
        RunRow.conversation_key == conversation_key, RunRow.run_id != run_id
    )
    others = connection.scalars(same.order_by(RunRow.created_at.desc()).limit(_OTHERS))
    return spent, seen, list(others)


def _place(order: Sequence[str], stage: str) -> int:
    # A revision is written before it is scored, a draft as well: both belong to the iteration.
    places = {"sample": 0, "update": 1, "reward_score": 2, "loss": 3, "gradient": 4}
    return places.get(stage, len(order))


def _doing(found: Trajectory, state: str, spent: list[tuple[int, str, Usage]]) -> str:
    run = found["run"]
    if state in ("running", "silent"):
        last = spent[-1] if spent else None
        what = _FOLLOWS.get(last[1] if last else "", "working")
        where = "" if last is None else f"iteration {last[0]}: "
        lost = "; its process gives no sign of life. `tpo runs resume` resumes it."
        return f"{where}{what}{lost if state == 'silent' else ''}"
    if run["error"]:
        return run["error"]
    return f"stopped by {run['stop_reason']}" if run["stop_reason"] else ""


def _facts(
    found: Trajectory, spent: list[tuple[int, str, Usage]], costs: CostTable | None
) -> list[tuple[str, str, str]]:
    run, candidates = found["run"], found["candidates"]
    firsts = [each for each in candidates if each["iteration"] == 0]
    highest = answer(found)["reward"] if candidates else None
    first = best(firsts)["reward"] if firsts else None
    gain = None if highest is None or first is None else highest - first
    cost = run_bill(run, found["usage"], costs)
    seconds = sum(usage["seconds"] for _, _, usage in spent)
    return [
        ("Reward", number(highest), f"best draft {number(first)}"),
        ("Gain", number(gain, signed=True), "over the best draft"),
        ("Tokens", f"{total_tokens(found['usage']):,}", "without the reward model's"),
        ("Time", duration(seconds), "in calls of models"),
        ("Cost", money(cost.cost, cost.currency), "" if cost.cost else "no prices are known"),
        ("Setting", size_of(run["settings"]), short_name(run["policy"])),
        ("Reward model", f"{len(candidates)} scored", short_name(run["reward_model"])),
    ]
