"""Drop the earlier checkpoints of a finished run: going deeper needs its last one only.

What each step said is in `tpo_steps` and `tpo_candidates`, once; fifteen checkpoints would keep
every text of a D2-N5 run several times more.
"""

from sqlalchemy import Connection, text

from tpo_graph.store.opening import Store

_NEWEST = "SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = :thread"
_CHECKPOINTS = f"DELETE FROM checkpoints WHERE thread_id = :thread AND checkpoint_id <> ({_NEWEST})"
_STATEMENTS = {
    "sqlite": ("DELETE FROM writes WHERE thread_id = :thread", _CHECKPOINTS),
    "postgresql": (
        "DELETE FROM checkpoint_writes WHERE thread_id = :thread",
        _CHECKPOINTS,
        "DELETE FROM checkpoint_blobs b WHERE thread_id = :thread AND NOT EXISTS ("
        "SELECT 1 FROM checkpoints c, jsonb_each_text(c.checkpoint -> 'channel_versions') v "
        "WHERE c.thread_id = b.thread_id AND v.key = b.channel AND v.value = b.version)",
    ),
}


async def drop_history(store: Store, thread_id: str) -> None:
    """Delete all checkpoints of a thread of ours but the newest, and what only they refer to."""

    def work(connection: Connection) -> None:
        for statement in _STATEMENTS[connection.dialect.name]:
            connection.execute(text(statement), {"thread": thread_id})

    await store.writer.run(work)
