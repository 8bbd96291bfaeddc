"""Drop the earlier checkpoints of a finished run: going deeper needs its last one only.

What each step said is in `tpo_steps` and `tpo_candidates`, once; a checkpoint per node would keep
every text of a D2-N5 run several times more.
"""

from langchain_core.runnables import RunnableConfig
from sqlalchemy import update

from tpo_graph.store.opening import Store
from tpo_graph.store.tables import RunRow

_OTHER = "/last"


def place(thread_id: str) -> RunnableConfig:
    """Where the savers find the newest checkpoint of a thread."""
    return RunnableConfig(configurable={"thread_id": thread_id, "checkpoint_ns": ""})


def both_threads(run_id: str) -> tuple[str, str]:
    """The names that the thread of a run of ours may have; its row says which one it has."""
    return run_id, run_id + _OTHER


def other_thread(run_id: str, thread_id: str) -> str:
    """The name that the thread of a run does not have at present."""
    first, second = both_threads(run_id)
    return second if thread_id == first else first


async def drop_history(store: Store, run_id: str, thread_id: str) -> None:
    """Leave a finished run, which the caller holds, only its last checkpoint.

    The savers delete whole threads only. So the checkpoint is copied to a thread of another name,
    the run's row is pointed there, and only then the old thread is deleted: a kill in between
    leaves a whole thread that the row names, and at worst another, which goes the next time or
    with the run.
    """
    saver = store.checkpointer
    last = await saver.aget_tuple(place(thread_id))
    if last is None:
        return
    kept = other_thread(run_id, thread_id)
    versions = last.checkpoint["channel_versions"]
    await saver.aput(place(kept), last.checkpoint, last.metadata, versions)
    mine = RunRow.run_id == run_id, RunRow.lease_owner == store.leases.owner
    moved = update(RunRow).where(*mine).values(thread_id=kept)
    if await store.writer.run(lambda connection: connection.execute(moved).rowcount):
        await saver.adelete_thread(thread_id)  # unless another process has taken the run over
