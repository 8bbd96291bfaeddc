"""The base model's own turns that began no run, kept for the same request asked again.

A turn that calls tools, and drafts of which none keeps to the wanted form, are paid for like a run.
They are kept as a checkpoint beside the runs', for as long as a finished run would answer again.
"""

import time
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata, empty_checkpoint

from tpo_graph.serve.base import Completion
from tpo_graph.serve.refusals import other_request
from tpo_graph.store import Store

_THREAD = "tpo-turn-"
_METADATA: Any = {"source": "input", "step": -1}
"""Of a turn's checkpoint: that of a thread's input."""
_SWEEP_SECONDS = 600.0
"""How often the store is searched for turns whose time is over."""


class Turns:
    """Turns of one server.

    Args:
        store: where they are kept; None keeps none, and the answers in memory are all there is.
        longest: seconds after which any of them may be deleted.
    """

    def __init__(self, store: Store | None, longest: float) -> None:
        self._store = store
        self._longest = longest
        self._swept: float | None = None

    async def find(self, run_id: str, fingerprint: str, seconds: float) -> Completion | None:
        """The turn of the request whose run would have this id.

        Args:
            fingerprint: digest of what is asked.
            seconds: age from which on it is asked anew.

        Raises:
            Refusal: the request's name stands for another request.
        """
        if self._store is None:
            return None
        found = await self._store.checkpointer.aget_tuple(_place(run_id))
        if found is None:
            return None
        kept: dict[str, Any] = found.checkpoint["channel_values"]["turn"]
        if time.time() - kept["at"] > seconds:
            return None
        if kept["fingerprint"] != fingerprint:
            raise other_request()
        return kept["completion"]

    async def keep(self, run_id: str, fingerprint: str, completion: Completion) -> None:
        """Keep a turn, and delete those of this database whose time is over."""
        if self._store is None:
            return
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {
            "turn": {"completion": completion, "fingerprint": fingerprint, "at": time.time()}
        }
        checkpoint["channel_versions"] = {"turn": "1"}
        metadata = CheckpointMetadata(**_METADATA, parents={})
        saver = self._store.checkpointer
        await saver.adelete_thread(_THREAD + run_id)  # one whose time is over
        await saver.aput(_place(run_id), checkpoint, metadata, {"turn": "1"})
        now = time.monotonic()
        if self._swept is None or now - self._swept > _SWEEP_SECONDS:
            self._swept = now
            oldest = _checkpoint_id(time.time() - self._longest)
            before = RunnableConfig(configurable={"checkpoint_id": oldest})
            found = saver.alist(None, filter=_METADATA, before=before)
            names = {c.config.get("configurable", {})["thread_id"] async for c in found}
            for name in names:
                if name.startswith(_THREAD):
                    await saver.adelete_thread(name)


def _place(run_id: str) -> RunnableConfig:
    return RunnableConfig(configurable={"thread_id": _THREAD + run_id, "checkpoint_ns": ""})


def _checkpoint_id(moment: float) -> str:
    """The id of a checkpoint made then (Unix time).

    It is a UUID of version 6 (RFC 9562): 60 bits of time, the highest first, in units of 100 ns
    since 1582-10-15.
    """
    ticks = f"{int(moment * 1e7) + 0x01B21DD213814000:015x}"
    return f"{ticks[:8]}-{ticks[8:12]}-6{ticks[12:]}"
