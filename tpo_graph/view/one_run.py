"""One run as its page shows it: samples with their scores, what the critic wrote, what it took."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, select

from tpo_graph.cache import Step
from tpo_graph.candidates import best, place
from tpo_graph.costs import CostTable, Role, bill
from tpo_graph.report.diff import Piece, compare
from tpo_graph.report.elements import markup
from tpo_graph.report.figures import number
from tpo_graph.report.render import duration, money, short_name
from tpo_graph.report.sources import run_prices
from tpo_graph.report.trajectory import trajectory
from tpo_graph.store.reading import Readable
from tpo_graph.store.runs import read
from tpo_graph.store.tables import RunRow, UsageRow
from tpo_graph.store.trajectory import ScoredCandidate, Trajectory, answer, read_trajectory
from tpo_graph.usage import Usage, total_tokens
from tpo_graph.view.listing import size_of, state_of

if TYPE_CHECKING:
    from markupsafe import Markup

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
class Sample:
    """One candidate."""

    count: int
    """Among the samples of its iteration, from 1, as wherever a person reads it."""
    reward: float
    roles: list[str]
    """"chosen", "rejected" or both, by the iteration that it belongs to or a later one."""
    top: bool
    """The best of its iteration."""
    pieces: list[Piece]
    """Its text, against the response that it revises."""


@dataclass(frozen=True)
class Iteration:
    """The samples of an iteration, and what the critic wrote about them."""

    iteration: int
    parent: bool
    samples: list[Sample]
    loss: str = ""
    gradient: str = ""


@dataclass(frozen=True)
class Curve:
    """Places in a drawing of 384 by 160."""

    line: str
    dots: list[dict[str, Any]]
    ticks: list[dict[str, Any]]
    iterations: list[dict[str, Any]]


@dataclass(frozen=True)
class Shown:
    """All that the page says of a run."""

    query: str
    state: str
    """One of `listing.STATES`."""
    doing: str
    """What happens, or how it ended."""
    facts: list[tuple[str, str, str]]
    iterations: list[Iteration]
    spent: list[tuple[int, str, Usage]]
    """(iteration, stage, usage), in the order of the work."""
    curve: Curve | None
    curve_words: str
    trajectory: "Markup"
    others: list[str] = field(default_factory=list[str])
    """Ids of other runs of this query, the newest first."""


async def read_shown(store: Readable, run_id: str, costs: CostTable | None) -> Shown:
    """One run.

    Raises:
        RunNotFoundError: no such run is stored.
    """
    from markupsafe import Markup

    found = await read_trajectory(store, run_id)
    run = found["run"]
    spent, seen_at, others = await read(
        store, lambda connection: _beside(connection, run_id, run["conversation_key"])
    )
    state = state_of(run["status"], seen_at)
    return Shown(
        query=run["conversation"][-1]["content"],
        state=state,
        doing=_doing(found, state, spent),
        facts=_facts(found, spent, costs),
        iterations=_iterations(found["candidates"], found["steps"]),
        spent=spent,
        curve=_curve(found["candidates"], found["steps"]),
        curve_words=_words(found["candidates"]),
        trajectory=Markup("".join(markup(trajectory(found)))),
        others=others,
    )


def run_pulse(connection: Connection, run_id: str) -> object:
    """Equal as long as the run has stored no step and has not ended."""
    row = select(RunRow.status, RunRow.stop_reason, RunRow.updated_at, RunRow.lease_owner)
    steps = select(func.count(), func.sum(UsageRow.requests)).where(UsageRow.run_id == run_id)
    run = connection.execute(row.where(RunRow.run_id == run_id)).one_or_none()
    return run and tuple(run), tuple(connection.execute(steps).one())


def _beside(
    connection: Connection, run_id: str, conversation_key: str
) -> tuple[list[tuple[int, str, Usage]], Any, list[str]]:
    counters: list[Any] = [getattr(UsageRow, name) for name in Usage.__annotations__]
    query = select(UsageRow.iteration, UsageRow.stage, *counters).where(UsageRow.run_id == run_id)
    rows: Any = connection.execute(query)
    spent = [
        (iteration, stage, Usage(**dict(zip(Usage.__annotations__, values, strict=True))))
        for iteration, stage, *values in rows
    ]
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
    models: dict[Role, str] = {
        "policy": run["policy"],
        "critic": run["critic"],
        "reward_model": run["reward_model"],
    }
    cost = bill(found["usage"], models, costs, run_prices(run["settings"]))
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


def _key(candidate: Any) -> tuple[int, int]:
    return candidate["iteration"], candidate["position"]


def _roles(steps: Sequence[Step]) -> dict[tuple[int, int], list[str]]:
    found: dict[tuple[int, int], list[str]] = {}
    for step in steps:
        for role in ("chosen", "rejected"):
            if (candidate := step.get(role)) is not None:
                words = found.setdefault(_key(candidate), [])
                if role not in words:
                    words.append(role)
    return found


def _iterations(candidates: Sequence[ScoredCandidate], steps: Sequence[Step]) -> list[Iteration]:
    roles, by_number = _roles(steps), {step["iteration"]: step for step in steps}
    found: list[Iteration] = []
    for iteration in sorted({each["iteration"] for each in candidates} | set(by_number)):
        here = [each for each in candidates if each["iteration"] == iteration]
        before = by_number.get(iteration - 1)
        parent = before.get("chosen") if before is not None else None
        highest = max((each["reward"] for each in here), default=None)
        step = by_number.get(iteration)
        samples = [
            Sample(
                count=each["position"] + 1,
                reward=each["reward"],
                roles=roles.get(_key(each), []),
                top=each["reward"] == highest,
                pieces=[Piece("same", each["response"])]
                if parent is None
                else compare(parent["response"], each["response"]),
            )
            for each in sorted(here, key=lambda each: -each["reward"])
        ]
        found.append(
            Iteration(
                iteration,
                parent is not None,
                samples,
                step.get("loss", "") if step else "",
                step.get("gradient", "") if step else "",
            )
        )
    return found


def _curve(candidates: Sequence[ScoredCandidate], steps: Sequence[Step]) -> Curve | None:
    if not candidates:
        return None
    rewards = [each["reward"] for each in candidates]
    low, high = min(rewards), max(rewards)
    span = (high - low) or 1.0
    numbers = sorted({each["iteration"] for each in candidates})
    step = 312 / max(1, len(numbers) - 1)
    across = {iteration: round(56 + step * place, 1) for place, iteration in enumerate(numbers)}

    def down(reward: float) -> float:
        return round(132 - 120 * (reward - low) / span, 1)

    tops = [max(e["reward"] for e in candidates if e["iteration"] == each) for each in numbers]
    line = zip(numbers, accumulate(tops, max), strict=True)
    roles = _roles(steps)
    return Curve(
        line=" ".join(f"{across[each]},{down(reward)}" for each, reward in line),
        dots=[
            {
                "x": across[each["iteration"]],
                "y": down(each["reward"]),
                "kind": (roles.get(_key(each)) or [""])[0],
                "text": f"{place(each)}: {number(each['reward'])}",
            }
            for each in candidates
        ],
        ticks=[{"y": down(value), "text": f"{value:.3g}"} for value in sorted({low, high})],
        iterations=[{"x": across[each], "text": str(each)} for each in numbers],
    )


def _words(candidates: Sequence[ScoredCandidate]) -> str:
    said = [
        f"iteration {iteration}: best "
        f"{number(max(e['reward'] for e in candidates if e['iteration'] == iteration))}"
        for iteration in sorted({each["iteration"] for each in candidates})
    ]
    return "Reward per iteration. " + "; ".join(said)
