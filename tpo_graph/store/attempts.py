"""A stored run that is opened again: its row says so, and earlier attempts stay on record.

What a step is drawn anew for would overwrite what the step consumed before, and the replies that it
could not use. Those rows are moved to iterations before 0, so that sums over a run stay true.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, or_, select, update

from tpo_graph.store.cache import earlier_attempt
from tpo_graph.store.opening import Store
from tpo_graph.store.tables import RunRow, UnusableRow, UsageRow, now

Steps = Sequence[tuple[int, str]]
"""Steps of a run: iteration and stage."""


async def open_again(store: Store, run_id: str, steps: Steps = ()) -> None:
    """Let a run that has ended go on; what `steps` had consumed is set aside."""

    def work(connection: Connection) -> None:
        _set_aside(connection, run_id, steps)
        opened: dict[str, Any] = {"status": "running", "stop_reason": None, "error": None}
        row = update(RunRow).where(RunRow.run_id == run_id)
        connection.execute(row.values(**opened, updated_at=now()))

    await store.writer.run(work)


async def set_aside(store: Store, run_id: str, steps: Steps) -> None:
    """Keep what some steps had consumed, and their unusable replies, as an earlier attempt."""
    await store.writer.run(lambda connection: _set_aside(connection, run_id, steps))


def _set_aside(connection: Connection, run_id: str, steps: Steps) -> None:
    if not steps:
        return
    before = earlier_attempt(connection, run_id)
    for table in (UsageRow, UnusableRow):
        of_steps = [and_(table.iteration == i, table.stage == stage) for i, stage in steps]
        moved = update(table).where(table.run_id == run_id, or_(*of_steps))
        connection.execute(moved.values(iteration=before))


async def change_settings(store: Store, run_id: str, changes: Mapping[str, Any]) -> None:
    """Give a run other values for some of its settings, which must be checked already."""

    def work(connection: Connection) -> None:
        where = RunRow.run_id == run_id
        settings = connection.scalar(select(RunRow.settings).where(where)) or {}
        changed = update(RunRow).where(where).values(settings={**settings, **changes})
        connection.execute(changed)

    await store.writer.run(work)
