"""The list of runs: which are wanted, and the numbers of a line each, in a few statements for all.

Texts stay in the database, but for the beginning of what was asked.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any, Self
from urllib.parse import urlencode

from sqlalchemy import ColumnElement, Connection, Text, and_, case, func, or_, select
from sqlalchemy import cast as sql_cast

from tpo_graph.conversation import storable
from tpo_graph.costs import CostTable
from tpo_graph.redaction import redacted
from tpo_graph.report.sources import run_bill
from tpo_graph.store.cache import read_usage
from tpo_graph.store.leases import STALE_SECONDS
from tpo_graph.store.runs import settings_of
from tpo_graph.store.tables import (
    BatchItemRow,
    BatchRow,
    CandidateRow,
    LabelRow,
    RunRow,
    UsageRow,
    now,
)
from tpo_graph.usage import Ledger, total_tokens

PAGE = 50
"""Runs on one page."""
_QUERY = 400
"""Characters of a query that are read."""
STATES = ("running", "silent", "finished", "interrupted", "failed")
"""What a run can be filtered by; "silent" is "running" by a process that gives no sign of life."""
LABELS = {"good": "good", "bad": "bad", "note": "with a note", "any": "any"}
"""What people said of the answer."""
ORDERS = {
    "": "newest first",
    "oldest": "oldest first",
    "gain": "largest gain",
    "reward": "highest reward",
    "lowest": "lowest reward",
    "tokens": "most tokens",
}


@dataclass(frozen=True)
class Wanted:
    """Which runs, in which order: the query string of an address that can be shared."""

    q: str = ""
    """Words of the query, or the beginning of a run's id."""
    state: str = ""
    model: str = ""
    reward: str = ""
    """Name of the reward model."""
    batch: str = ""
    label: str = ""
    """One of `LABELS`."""
    order: str = ""
    page: int = 1

    @classmethod
    def read(cls, values: Mapping[str, str]) -> Self:
        """From a query string; what makes no sense there is left out."""
        words = {
            name: storable(values.get(name, "")[:1000])
            for name in ("q", "model", "reward", "batch")
        }
        state, order, page = (values.get(name, "") for name in ("state", "order", "page"))
        label = values.get("label", "")
        return cls(
            **words,
            state=state if state in STATES else "",
            label=label if label in LABELS else "",
            order=order if order in ORDERS else "",
            page=int(page[:7]) if page.isascii() and page.isdigit() and int(page[:7]) > 0 else 1,
        )

    def address(self, **changes: Any) -> str:
        """The query string, with the "?", of this selection with some changes."""
        values = asdict(replace(self, **changes)).items()
        given = {name: value for name, value in values if value and (name, value) != ("page", 1)}
        return f"?{urlencode(given)}" if given else "?"

    def clauses(self, dialect: str) -> list[ColumnElement[bool]]:
        """What a query of `tpo_runs` adds to its `WHERE`."""
        asked = func.lower(_question(dialect))
        found: list[ColumnElement[bool]] = [
            or_(
                asked.contains(word.lower(), autoescape=True),
                RunRow.run_id.startswith(word, autoescape=True),
            )
            for word in self.q.split()
        ]
        if self.state:
            silent = or_(
                RunRow.lease_seen_at.is_(None),
                RunRow.lease_seen_at < now() - timedelta(seconds=STALE_SECONDS),
            )
            running = RunRow.status == "running"
            found.append(
                and_(running, silent)
                if self.state == "silent"
                else and_(running, ~silent)
                if self.state == "running"
                else RunRow.status == self.state
            )
        if self.model:
            found.append(RunRow.policy == self.model)
        if self.reward:
            found.append(RunRow.reward_model == redacted(self.reward))
        if self.batch:
            rows = select(BatchItemRow.run_id).where(
                BatchItemRow.batch == self.batch, BatchItemRow.run_id.is_not(None)
            )
            found.append(RunRow.run_id.in_(rows))
        if self.label:
            labelled = select(LabelRow.run_id)
            if self.label == "note":
                labelled = labelled.where(LabelRow.note != "")
            elif self.label != "any":
                labelled = labelled.where(LabelRow.label == self.label)
            found.append(RunRow.run_id.in_(labelled))
        return found


@dataclass(frozen=True)
class Line:
    """One run of the list."""

    run_id: str
    query: str
    """What was asked last, cut."""
    state: str
    """One of `STATES`."""
    stop_reason: str
    error: str
    model: str
    reward_model: str
    size: str
    """Such as "D2-N5"."""
    created_at: datetime
    """UTC."""
    label: str = ""
    """What a person said of the answer: "good", "bad", "note" for a note alone, or nothing."""
    batches: list[str] = field(default_factory=list[str])
    best: list[float] = field(default_factory=list[float])
    """The highest reward up to each scored iteration."""
    tokens: int = 0
    cost: float | None = None
    currency: str = ""
    seconds: float = 0.0
    """Waited for models, over all steps."""

    @property
    def reward(self) -> float | None:
        """Of the best response so far."""
        return self.best[-1] if self.best else None

    @property
    def gain(self) -> float | None:
        """Over the best first sample."""
        return self.best[-1] - self.best[0] if self.best else None


@dataclass(frozen=True)
class Listing:
    """One page of runs, and what the filters offer."""

    wanted: Wanted
    lines: list[Line]
    total: int
    """How many pass the filters."""
    models: list[str]
    rewards: list[str]
    batches: list[str]

    @property
    def pages(self) -> int:
        """How many there are."""
        return max(1, -(-self.total // PAGE))


def _question(dialect: str) -> ColumnElement[str]:
    """What was asked last. (JSON's own text has other quotes, and keys that would be found too.)"""
    if dialect == "sqlite":
        return func.json_extract(RunRow.conversation, "$[#-1].content", type_=Text())
    # PostgreSQL's JSON operators fail on a zero byte: such a conversation is shown as it is stored.
    stored = sql_cast(RunRow.conversation, Text())
    content = RunRow.conversation[-1]["content"].as_string()
    return case((func.strpos(stored, "\\u0000") > 0, stored), else_=content)


def read_listing(connection: Connection, wanted: Wanted, costs: CostTable | None) -> Listing:
    """One page of the list."""
    columns = [getattr(RunRow, name) for name in _COLUMNS]
    where = wanted.clauses(dialect := connection.dialect.name)
    query = select(*columns, func.substr(_question(dialect), 1, _QUERY).label("query"))
    query = query.where(*where).order_by(*_ordered(wanted.order), RunRow.run_id.desc())
    query = query.limit(PAGE).offset(PAGE * (wanted.page - 1))
    total = select(func.count()).select_from(RunRow).where(*where)
    return Listing(
        wanted=wanted,
        lines=_lines(connection, connection.execute(query).mappings().all(), costs),
        total=connection.scalar(total) or 0,
        models=_distinct(connection, RunRow.policy),
        rewards=_distinct(connection, RunRow.reward_model),
        batches=list(connection.scalars(select(BatchRow.name).order_by(BatchRow.name).limit(500))),
    )


def pulse(connection: Connection) -> object:
    """Equal as long as no run has begun, ended, fallen silent, stored a step or got a label."""
    newest = select(RunRow.run_id, RunRow.created_at).order_by(RunRow.created_at.desc()).limit(1)
    told = (RunRow.run_id, RunRow.updated_at, RunRow.lease_seen_at)
    running = select(*told, func.count(UsageRow.stage))
    running = running.outerjoin(UsageRow, UsageRow.run_id == RunRow.run_id)
    running = running.where(RunRow.status == "running").group_by(*told)
    labelled = select(func.count(), func.max(LabelRow.updated_at))
    return [
        *([tuple(row) for row in connection.execute(query)] for query in (newest, labelled)),
        [
            (run_id, changed, state_of("running", seen), steps)
            for run_id, changed, seen, steps in connection.execute(running.order_by(RunRow.run_id))
        ],
    ]


def state_of(status: str, seen_at: datetime | None) -> str:
    """One of `STATES`.

    Args:
        seen_at: the last heartbeat of the process that works on the run.
    """
    if status != "running":
        return status
    fresh = seen_at is not None and now() - seen_at < timedelta(seconds=STALE_SECONDS)
    return "running" if fresh else "silent"


def size_of(settings: object) -> str:
    """Depth and width as the paper writes them."""
    found = settings_of(settings)
    return f"D{found.get('depth', '?')}-N{found.get('width', '?')}"


_COLUMNS = (
    *("run_id", "status", "stop_reason", "error", "created_at", "settings"),
    *("policy", "critic", "reward_model", "lease_seen_at"),
)


def _ordered(order: str) -> list[Any]:
    def of_run(value: Any, *where: Any) -> Any:
        return select(value).where(CandidateRow.run_id == RunRow.run_id, *where).scalar_subquery()

    newest = RunRow.created_at.desc()
    highest = func.coalesce(of_run(func.max(CandidateRow.reward)), -1e300)
    if order == "oldest":
        return [RunRow.created_at]
    if order == "reward":
        return [highest.desc(), newest]
    if order == "lowest":
        return [func.coalesce(of_run(func.max(CandidateRow.reward)), 1e300), newest]
    if order == "gain":
        first = of_run(func.max(CandidateRow.reward), CandidateRow.iteration == 0)
        gain = of_run(func.max(CandidateRow.reward)) - first
        return [func.coalesce(gain, -1e300).desc(), newest]
    if order == "tokens":
        spent = func.sum(UsageRow.prompt_tokens + UsageRow.completion_tokens)
        counted = select(spent).where(
            UsageRow.run_id == RunRow.run_id, UsageRow.stage != "reward_score"
        )
        return [func.coalesce(counted.scalar_subquery(), 0).desc(), newest]
    return [newest]


def _distinct(connection: Connection, column: Any) -> list[str]:
    return list(connection.scalars(select(column).distinct().order_by(column).limit(200)))


def _lines(connection: Connection, rows: Any, costs: CostTable | None) -> list[Line]:
    ids = [row["run_id"] for row in rows]
    rewards: dict[str, list[float]] = {}
    highest = select(CandidateRow.run_id, func.max(CandidateRow.reward))
    highest = highest.where(CandidateRow.run_id.in_(ids))
    highest = highest.group_by(CandidateRow.run_id, CandidateRow.iteration)
    for run_id, reward in connection.execute(highest.order_by(CandidateRow.iteration)):
        rewards.setdefault(run_id, []).append(reward)
    ledgers: dict[str, Ledger] = {}
    each = UsageRow.run_id, UsageRow.stage
    for run_id, stage, usage in read_usage(connection, each, UsageRow.run_id.in_(ids)):
        ledgers.setdefault(run_id, {})[stage] = usage
    batches: dict[str, list[str]] = {}
    named = select(BatchItemRow.run_id, BatchItemRow.batch).where(BatchItemRow.run_id.in_(ids))
    for run_id, batch in connection.execute(named.order_by(BatchItemRow.batch)):
        batches.setdefault(str(run_id), []).append(batch)
    said = select(LabelRow.run_id, LabelRow.label).where(LabelRow.run_id.in_(ids))
    labels = {run_id: label or "note" for run_id, label in connection.execute(said)}
    return [
        _line(
            row,
            label=labels.get(row["run_id"], ""),
            best=list(accumulate(rewards.get(row["run_id"], []), max)),
            ledger=ledgers.get(row["run_id"], {}),
            batches=batches.get(row["run_id"], []),
            costs=costs,
        )
        for row in rows
    ]


def _line(
    row: Any,
    *,
    label: str,
    best: list[float],
    ledger: Ledger,
    batches: list[str],
    costs: CostTable | None,
) -> Line:
    spent = run_bill(row, ledger, costs)
    return Line(
        run_id=row["run_id"],
        query=row["query"] or "",
        state=state_of(row["status"], row["lease_seen_at"]),
        stop_reason=row["stop_reason"] or "",
        error=redacted(row["error"] or ""),
        model=redacted(row["policy"]),
        reward_model=redacted(row["reward_model"]),
        size=size_of(row["settings"]),
        created_at=row["created_at"],
        label=label,
        batches=batches,
        best=best,
        tokens=total_tokens(ledger),
        cost=spent.cost,
        currency=spent.currency,
        seconds=sum(usage["seconds"] for usage in ledger.values()),
    )
