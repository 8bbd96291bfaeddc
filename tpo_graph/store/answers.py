"""What became of many runs, in a few statements for all: their answers and what they cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, select

from tpo_graph.candidates import Candidate
from tpo_graph.conversation import response_key
from tpo_graph.store.cache import candidate_of, read_usage
from tpo_graph.store.runs import takes_best
from tpo_graph.store.tables import CandidateRow, RewardRow, RunRow, StepRow, UsageRow
from tpo_graph.usage import Ledger, Usage

_CANDIDATE: list[Any] = [
    CandidateRow.run_id,
    CandidateRow.iteration,
    CandidateRow.position,
    CandidateRow.reward,
    CandidateRow.response,
    CandidateRow.finish_reason,
    CandidateRow.reason,
]


@dataclass
class RunAnswer:
    """One run, without the texts that lost."""

    best: Candidate | None = None
    """The answer, or the best so far; None before the first scoring."""
    first: Candidate | None = None
    """The best of the first samples."""
    usage: Ledger = field(default_factory=dict[str, Usage])
    audit: Mapping[str, float] = field(default_factory=dict[str, float])
    """Rewards by the auditor, by response: of `first` and `best`, where they are known."""


def read_answers(
    connection: Connection, run_ids: Sequence[str], auditor: str | None = None
) -> dict[str, RunAnswer]:
    """Runs by their ids; those that have not begun are empty.

    Args:
        auditor: the name of a reward model whose scores are wanted, too.
    """
    answers = {run_id: RunAnswer() for run_id in run_ids}
    for run_id, candidate in _top(connection, run_ids):
        answers[run_id].best = candidate
    for run_id, candidate in picked(connection, run_ids).items():
        answers[run_id].best = candidate
    for run_id, candidate in _top(connection, run_ids, CandidateRow.iteration == 0):
        answers[run_id].first = candidate
    each = UsageRow.run_id, UsageRow.stage
    for run_id, stage, usage in read_usage(connection, each, UsageRow.run_id.in_(run_ids)):
        answers[run_id].usage[stage] = usage
    if auditor is not None:
        _audit(connection, answers, auditor)
    return answers


def picked(connection: Connection, run_ids: Sequence[str]) -> dict[str, Candidate]:
    """The answers of the ended runs among these whose setting `pick` is not argmax: the chosen of
    their last steps."""
    # Read here and not by a JSON operator: PostgreSQL's fail on settings that hold a zero byte.
    ended = select(RunRow.run_id, RunRow.settings).where(
        RunRow.run_id.in_(run_ids), RunRow.stop_reason.is_not(None)
    )
    other = [row.run_id for row in connection.execute(ended) if not takes_best(row.settings)]
    if not other:
        return {}
    last = (
        select(StepRow.run_id, func.max(StepRow.iteration).label("iteration"))
        .where(StepRow.run_id.in_(other), StepRow.chosen_iteration.is_not(None))
        .group_by(StepRow.run_id)
        .subquery()
    )
    query = (
        select(*_CANDIDATE)
        .join(
            StepRow,
            (StepRow.run_id == CandidateRow.run_id)
            & (StepRow.chosen_iteration == CandidateRow.iteration)
            & (StepRow.chosen_position == CandidateRow.position),
        )
        .join(last, (last.c.run_id == StepRow.run_id) & (last.c.iteration == StepRow.iteration))
    )
    return {row.run_id: candidate_of(row) for row in connection.execute(query)}


def _top(
    connection: Connection, run_ids: Sequence[str], *where: Any
) -> list[tuple[str, Candidate]]:
    """The best candidate of each run, in the order of `candidates.rank`."""
    place = func.row_number().over(
        partition_by=CandidateRow.run_id,
        order_by=[
            func.coalesce(CandidateRow.finish_reason, "") == "length",
            CandidateRow.reward.desc(),
            CandidateRow.iteration,
            CandidateRow.position,
        ],
    )
    ranked = (
        select(
            CandidateRow.run_id,
            CandidateRow.iteration,
            CandidateRow.position,
            place.label("place"),
        )
        .where(CandidateRow.run_id.in_(run_ids), *where)
        .subquery()
    )
    # The texts are fetched for the winners alone.
    query = select(*_CANDIDATE).join(
        ranked,
        (ranked.c.run_id == CandidateRow.run_id)
        & (ranked.c.iteration == CandidateRow.iteration)
        & (ranked.c.position == CandidateRow.position)
        & (ranked.c.place == 1),
    )
    return [(row.run_id, candidate_of(row)) for row in connection.execute(query)]


def _audit(connection: Connection, answers: Mapping[str, RunAnswer], auditor: str) -> None:
    query = select(RunRow.run_id, RunRow.conversation_key).where(RunRow.run_id.in_(list(answers)))
    keys = {run_id: key for run_id, key in connection.execute(query)}  # noqa: C416
    scored = select(RewardRow.conversation_key, RewardRow.response_key, RewardRow.reward).where(
        RewardRow.conversation_key.in_(set(keys.values())), RewardRow.reward_model == auditor
    )
    known = {(asked, text): reward for asked, text, reward in connection.execute(scored)}
    for run_id, answer in answers.items():
        texts = {c["response"] for c in (answer.best, answer.first) if c is not None}
        found = {text: known.get((keys.get(run_id, ""), response_key(text))) for text in texts}
        answer.audit = {text: reward for text, reward in found.items() if reward is not None}
