"""Drop the earlier checkpoints of a finished run: going deeper needs its last one only.

What each step said is in `tpo_steps` and `tpo_candidates`, once; a checkpoint per node would keep
every text of a D2-N5 run several times more.
"""

from tpo_graph.store.statements import Statement

_NEWEST = "SELECT max(checkpoint_id) FROM checkpoints WHERE thread_id = {0}"
_CHECKPOINTS = f"DELETE FROM checkpoints WHERE thread_id = {{0}} AND checkpoint_id <> ({_NEWEST})"
_STATEMENTS = {
    "sqlite": ("DELETE FROM writes WHERE thread_id = {0}", _CHECKPOINTS),
    "postgresql": (
        "DELETE FROM checkpoint_writes WHERE thread_id = {0}",
        _CHECKPOINTS,
        "DELETE FROM checkpoint_blobs b WHERE thread_id = {0} AND NOT EXISTS ("
        "SELECT 1 FROM checkpoints c, jsonb_each_text(c.checkpoint -> 'channel_versions') v "
        "WHERE c.thread_id = b.thread_id AND v.key = b.channel AND v.value = b.version)",
    ),
}


def drop_history(thread_id: str, dialect: str) -> list[Statement]:
    """Delete all checkpoints of a thread of ours but the newest, and what only they refer to.

    Args:
        dialect: SQLAlchemy's name of the back end.
    """
    mark = ":thread" if dialect == "sqlite" else "%(thread)s"
    return [(sql.format(mark), [{"thread": thread_id}]) for sql in _STATEMENTS[dialect]]
