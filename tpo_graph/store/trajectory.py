"""Everything that is stored about one run, in one value: what `tpo runs show` and `export` read."""

from collections.abc import AsyncGenerator, Sequence
from typing import NotRequired, TypedDict

from sqlalchemy import Connection, select

from tpo_graph.cache import Step, UnusableReply
from tpo_graph.candidates import Candidate, best
from tpo_graph.conversation import response_key
from tpo_graph.store.cache import read_candidates, read_steps, read_unusable, read_usage
from tpo_graph.store.labels import Label, read_labels
from tpo_graph.store.reading import Readable
from tpo_graph.store.runs import (
    EVERY_RUN,
    RunFilter,
    StoredRun,
    filtered_run_ids,
    get_run,
    read,
    takes_best,
)
from tpo_graph.store.tables import RewardRow, UsageRow
from tpo_graph.usage import Ledger


class ScoredCandidate(Candidate):
    """A candidate with what other reward models gave it."""

    other_rewards: dict[str, float]
    """By reward model (`tpo runs rescore`); the run's own is `reward`."""


class Trajectory(TypedDict):
    """One run with all that belongs to it."""

    run: StoredRun
    candidates: list[ScoredCandidate]
    """By iteration and position."""
    steps: list[Step]
    unusable: list[UnusableReply]
    """Replies that are no candidates, by iteration, stage and position."""
    usage: Ledger
    """Per stage, over all iterations."""
    label: NotRequired[Label]
    """What a person said of the answer; absent where nobody did."""


def answer(found: Trajectory) -> Candidate:
    """What the run answered with; the best so far while it runs.

    Raises:
        ValueError: nothing was scored.
    """
    run, steps = found["run"], found["steps"]
    picked = run["stop_reason"] is not None and not takes_best(run["settings"])
    if picked and steps and "chosen" in steps[-1]:
        return steps[-1]["chosen"]
    return best(found["candidates"])


async def read_trajectory(store: Readable, run_id: str) -> Trajectory:
    """One run, or a `RunNotFoundError`."""
    run = await get_run(store, run_id)
    return await read(store, lambda connection: _trajectory(connection, run))


async def export_runs(
    store: Readable, run_ids: Sequence[str] = (), filters: RunFilter = EVERY_RUN
) -> AsyncGenerator[Trajectory]:
    """Runs one after another, the oldest first.

    Args:
        run_ids: which; all when empty.
        filters: only those of them that pass.
    """
    for run_id in await filtered_run_ids(store, run_ids, filters):
        yield await read_trajectory(store, run_id)


def _trajectory(connection: Connection, run: StoredRun) -> Trajectory:
    others: dict[str, dict[str, float]] = {}
    rewards = select(RewardRow.response_key, RewardRow.reward_model, RewardRow.reward).where(
        RewardRow.conversation_key == run["conversation_key"],
        RewardRow.reward_model != run["reward_model"],
    )
    for key, model, reward in connection.execute(rewards):
        others.setdefault(key, {})[model] = reward
    candidates = [
        ScoredCandidate(**c, other_rewards=others.get(response_key(c["response"]), {}))
        for c in read_candidates(connection, run["run_id"])
    ]
    found = Trajectory(
        run=run,
        candidates=candidates,
        steps=read_steps(connection, run["run_id"]),
        unusable=read_unusable(connection, run["run_id"]),
        usage=dict(read_usage(connection, [UsageRow.stage], UsageRow.run_id == run["run_id"])),
    )
    if label := read_labels(connection, [run["run_id"]]):
        found["label"] = label[run["run_id"]]
    return found
