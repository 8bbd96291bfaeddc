"""The cache C in SQL: the same promises as `tpo_graph.cache.Cache`, kept in a database.

Nodes call it as they finish; what a call wrote is committed when the call returns. Rows go through
the `Writer`; `tpo_graph.store.runs` reads them.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, Unpack

from sqlalchemy import Connection, Engine, func, select

from tpo_graph.cache import Run, Said, Scores, Step, UnusableReply
from tpo_graph.candidates import Candidate, Score
from tpo_graph.conversation import conversation_key, response_key
from tpo_graph.redaction import redacted, redacted_row
from tpo_graph.store.failures import explained
from tpo_graph.store.patience import again
from tpo_graph.store.tables import (
    Base,
    CandidateRow,
    RewardRow,
    RunRow,
    StepRow,
    UnusableRow,
    UsageRow,
    now,
)
from tpo_graph.store.upserts import Statement, execute, plain, upsertion
from tpo_graph.store.writer import Writer
from tpo_graph.usage import Usage

_COUNTERS: list[Any] = [func.sum(getattr(UsageRow, name)) for name in Usage.__annotations__]
T = TypeVar("T")


class SqlCache:
    """A `Cache` in a database that `open_store` has opened. Usable from several event loops.

    Args:
        engine: for reading.
        writer: for everything that must be committed.
        reuse_scores: whether `known_rewards` looks into the score cache (`--no-score-cache`).
    """

    def __init__(self, engine: Engine, writer: Writer, *, reuse_scores: bool = True) -> None:
        self._engine = engine
        self._writer = writer
        self.reuse_scores = reuse_scores

    def reusing(self, reuse_scores: bool) -> "SqlCache":
        """The same cache, which looks into the score cache only if both it and you want so."""
        both = self.reuse_scores and reuse_scores
        return SqlCache(self._engine, self._writer, reuse_scores=both)

    async def begin(self, run: Run) -> None:
        """See `Cache.begin`."""
        row = run_row(run)
        # created_at stays the first one's: a node that runs twice begins the same run.
        columns = tuple(name for name in row if name != "created_at")
        await self._writer.write([upsertion(RunRow, [row], columns, self._writer.dialect)])

    async def record(self, run_id: str, iteration: int, stage: str, **said: Unpack[Said]) -> None:
        """See `Cache.record`. A run that was never begun is a `StoreError`."""
        dialect = self._writer.dialect
        await self._writer.write(_statements(run_id, iteration, stage, said, dialect))

    async def set_aside(self, run_id: str, stage: str, usage: Usage) -> None:
        """See `Cache.set_aside`. Committed when it returns, as an iteration below 0."""

        def work(connection: Connection) -> None:
            here = {"run_id": run_id, "iteration": earlier_attempt(connection, run_id)}
            row = upsertion(UsageRow, [{**here, "stage": stage, **usage}], (), dialect)
            execute(connection, [row])

        dialect = self._writer.dialect
        await self._writer.run(work)

    async def known_rewards(self, scores: Scores, responses: Sequence[str]) -> list[Score | None]:
        """See `Cache.known_rewards`."""
        if not self.reuse_scores:
            return [None] * len(responses)
        if not responses:  # an update without a usable reply; PostgreSQL knows no empty list
            return []
        keys = [response_key(response) for response in responses]
        # By the writer, which is awake already: a thread and a connection of its own cost more.
        known = await self._writer.run(lambda connection: _known(connection, scores, set(keys)))
        return [known.get(key) for key in keys]

    async def remember(self, scores: Scores, rewards: Mapping[str, float]) -> None:
        """See `Cache.remember`."""
        keyed = {
            response_key(text): (float(reward), getattr(reward, "reason", None))
            for text, reward in rewards.items()
        }
        if rows := _reward_rows(keyed, scores):
            await self._writer.write(
                [upsertion(RewardRow, rows, ("reward", "reason"), self._writer.dialect)]
            )

    async def candidates(self, run_id: str) -> list[Candidate]:
        """See `Cache.candidates`."""
        return await self._read(lambda connection: read_candidates(connection, run_id))

    async def steps(self, run_id: str) -> list[Step]:
        """See `Cache.steps`."""
        return await self._read(lambda connection: read_steps(connection, run_id))

    async def unusable(self, run_id: str) -> list[UnusableReply]:
        """See `Cache.unusable`."""
        return await self._read(lambda connection: read_unusable(connection, run_id))

    async def whole(self, run_id: str) -> tuple[list[Candidate], list[Step]]:
        """See `RunReader.whole`."""

        def work(connection: Connection) -> tuple[list[Candidate], list[Step]]:
            candidates = read_candidates(connection, run_id)
            return candidates, read_steps(connection, run_id, candidates)

        return await self._read(work)

    async def _read(self, work: Callable[[Connection], T]) -> T:
        def once() -> T:
            with self._engine.connect() as connection:
                return work(connection)

        with explained(self._engine.url):
            return await asyncio.to_thread(again, once, self._writer.patience)


def earlier_attempt(connection: Connection, run_id: str) -> int:
    """The next free iteration below 0, where what a run repeats is kept: sums over it stay true."""
    first = [
        connection.scalar(select(func.min(table.iteration)).where(table.run_id == run_id))
        for table in (UsageRow, UnusableRow)
    ]
    return min(0, *(number or 0 for number in first)) - 1


_UNSAID: dict[str, Any] = {"finish_reason": None, "reason": None}
"""Columns of a candidate that it need not have."""


def run_row(run: Run) -> dict[str, Any]:
    """The row of a run that begins now."""
    moment = now()
    return {
        **redacted_row(run),
        "conversation_key": conversation_key(run["conversation"]),
        "status": "running",
        "stop_reason": None,
        "error": None,
        "created_at": moment,
        "updated_at": moment,
    }


def _statements(
    run_id: str, iteration: int, stage: str, said: Said, dialect: str
) -> list[Statement]:
    """What `record` writes."""
    statements: list[Statement] = []
    here = {"run_id": run_id, "iteration": iteration}

    def put(model: type[Base], rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
        statements.append(upsertion(model, rows, columns, dialect))

    if candidates := said.get("candidates"):
        statements.append(_beyond(CandidateRow, here, len(candidates), dialect))
        keys = [response_key(candidate["response"]) for candidate in candidates]
        rows = [
            {**_UNSAID, **candidate, "run_id": run_id, "response_key": key}
            for candidate, key in zip(candidates, keys, strict=True)
        ]
        put(CandidateRow, rows, ("reward", "response", "response_key", *_UNSAID))
        if (scores := said.get("scores")) is not None:
            rewards = {
                key: (candidate["reward"], candidate.get("reason"))
                for candidate, key in zip(candidates, keys, strict=True)
            }
            put(RewardRow, _reward_rows(rewards, scores), ("reward", "reason"))
    if (step := said.get("step")) is not None:
        fields = _step_fields(step)
        put(StepRow, [{**here, **fields}], tuple(fields))
    if (usage := said.get("usage")) is not None:
        row = {**here, "stage": stage, **usage}
        # A scoring that runs again finds its own scores and pays nothing: what it paid stays.
        statements.append(upsertion(UsageRow, [row], tuple(usage), dialect, "requests"))
    if (unusable := said.get("unusable")) is not None:
        at = {**here, "stage": stage}
        statements.append(_beyond(UnusableRow, at, len(unusable), dialect))
    if unusable:
        rows = [
            {**here, "stage": stage, "position": position, "text": text, "why": why}
            for position, (text, why) in enumerate(unusable)
        ]
        put(UnusableRow, rows, ("text", "why"))
    if (stop_reason := said.get("stop_reason")) is not None:
        statements.append(_finish(run_id, stop_reason, said.get("error"), dialect))
    return statements


def _beyond(model: type[Base], place: Mapping[str, Any], count: int, dialect: str) -> Statement:
    """Delete what an earlier attempt of a node had more of, whose checkpoint did not come about."""
    mark = ":{}" if dialect == "sqlite" else "%({})s"
    where = " AND ".join(f"{name} = {mark.format(name)}" for name in place)
    sql = f"DELETE FROM {model.__tablename__} WHERE {where} AND position >= {mark.format('count')}"
    return sql, [{**place, "count": count}]


def _finish(run_id: str, stop_reason: str, error: str | None, dialect: str) -> Statement:
    values = {
        "status": "finished" if error is None else "failed",
        "stop_reason": stop_reason,
        "error": error,
        "updated_at": plain(now(), is_sqlite=dialect == "sqlite"),
    }
    mark = ":{}" if dialect == "sqlite" else "%({})s"
    changes = ", ".join(f"{name} = {mark.format(name)}" for name in values)
    sql = f"UPDATE tpo_runs SET {changes} WHERE run_id = {mark.format('run_id')}"
    return sql, [{**values, "run_id": run_id}]


def _known(connection: Connection, scores: Scores, keys: set[str]) -> dict[str, Score]:
    mark = "?" if connection.dialect.name == "sqlite" else "%s"
    found = connection.exec_driver_sql(
        f"SELECT response_key, reward, reason FROM tpo_rewards WHERE conversation_key = {mark} "
        f"AND reward_model = {mark} AND response_key IN ({', '.join([mark] * len(keys))})",
        (scores["conversation"], redacted(scores["reward_model"]), *keys),
    )
    return {row.response_key: Score(row.reward, row.reason or "") for row in found}


def _reward_rows(
    rewards: Mapping[str, tuple[float, str | None]], scores: Scores
) -> list[dict[str, Any]]:
    moment = now()
    # In one order everywhere, so that two processes with the same texts cannot deadlock.
    return [
        {
            "conversation_key": scores["conversation"],
            "response_key": key,
            "reward_model": redacted(scores["reward_model"]),
            "reward": rewards[key][0],
            "reason": rewards[key][1],
            "created_at": moment,
        }
        for key in sorted(rewards)
    ]


def _step_fields(step: Step) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for role in ("chosen", "rejected"):
        if (candidate := step.get(role)) is not None:
            fields[f"{role}_iteration"] = candidate["iteration"]
            fields[f"{role}_position"] = candidate["position"]
    for text in ("loss", "gradient"):
        if (written := step.get(text)) is not None:
            fields[text] = written
    return fields


def read_candidates(connection: Connection, run_id: str) -> list[Candidate]:
    """All candidates of a run, by iteration and position."""
    query = (
        select(
            CandidateRow.iteration,
            CandidateRow.position,
            CandidateRow.reward,
            CandidateRow.response,
            CandidateRow.finish_reason,
            CandidateRow.reason,
        )
        .where(CandidateRow.run_id == run_id)
        .order_by(CandidateRow.iteration, CandidateRow.position)
    )
    return [candidate_of(row) for row in connection.execute(query)]


def candidate_of(row: Any) -> Candidate:
    """A candidate from its columns; what the row does not say is absent."""
    candidate = Candidate(
        iteration=row.iteration, position=row.position, reward=row.reward, response=row.response
    )
    if row.finish_reason is not None:
        candidate["finish_reason"] = row.finish_reason
    if row.reason is not None:
        candidate["reason"] = row.reason
    return candidate


def read_unusable(connection: Connection, run_id: str) -> list[UnusableReply]:
    """The replies of a run that are no candidates, by iteration, stage and position."""
    columns = [getattr(UnusableRow, name) for name in UnusableReply.__annotations__]
    query = select(*columns).where(UnusableRow.run_id == run_id)
    ordered = query.order_by(UnusableRow.iteration, UnusableRow.stage, UnusableRow.position)
    return [UnusableReply(**row) for row in connection.execute(ordered).mappings()]  # type: ignore[typeddict-item]


def read_usage(connection: Connection, by: Sequence[Any], where: Any) -> Iterator[Any]:
    """What was consumed, added up for each value of the columns `by`: these, then the `Usage`."""
    query = select(*by, *_COUNTERS).where(where).group_by(*by)
    for row in connection.execute(query.order_by(func.min(UsageRow.iteration))):
        usage = Usage(**dict(zip(Usage.__annotations__, row[len(by) :], strict=True)))
        usage["seconds"] = round(usage["seconds"], 6)
        yield *row[: len(by)], usage


def read_steps(
    connection: Connection, run_id: str, candidates: list[Candidate] | None = None
) -> list[Step]:
    """All steps of a run, by iteration, with the texts of their candidates.

    Args:
        candidates: the run's, where they are read already.
    """
    if candidates is None:
        candidates = read_candidates(connection, run_id)
    by_place = {(c["iteration"], c["position"]): c for c in candidates}
    query = (
        select(
            StepRow.iteration,
            StepRow.chosen_iteration,
            StepRow.chosen_position,
            StepRow.rejected_iteration,
            StepRow.rejected_position,
            StepRow.loss,
            StepRow.gradient,
        )
        .where(StepRow.run_id == run_id)
        .order_by(StepRow.iteration)
    )
    steps: list[Step] = []
    for row in connection.execute(query):
        step = Step(iteration=row.iteration)
        if row.chosen_iteration is not None:
            step["chosen"] = by_place[row.chosen_iteration, row.chosen_position]
        if row.rejected_iteration is not None:
            step["rejected"] = by_place[row.rejected_iteration, row.rejected_position]
        if row.loss is not None:
            step["loss"] = row.loss
        if row.gradient is not None:
            step["gradient"] = row.gradient
        steps.append(step)
    return steps
