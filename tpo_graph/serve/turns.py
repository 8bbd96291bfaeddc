"""The base model's own turns that began no run, kept for the same request asked again.

A turn that calls tools, and drafts of which none keeps to the wanted form, are paid for like a run.
They are kept as a checkpoint beside the runs', for as long as a finished run would answer again.
"""

import time
from collections import deque
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata, empty_checkpoint

from tpo_graph.serve.base import Completion
from tpo_graph.serve.refusals import other_request
from tpo_graph.store import Store


class Turns:
    """Turns of one server.

    Args:
        store: where they are kept; None keeps none, and the answers in memory are all there is.
        seconds: for how long.
    """

    def __init__(self, store: Store | None, seconds: float) -> None:
        self._store = store
        self._seconds = seconds
        self._kept: deque[tuple[float, str]] = deque()

    async def find(self, run_id: str, fingerprint: str, for_ever: bool) -> Completion | None:
        """The turn of the request whose run would have this id.

        Args:
            fingerprint: digest of what is asked.
            for_ever: the client named the request, so that age is no matter.

        Raises:
            Refusal: the name was used for another request.
        """
        if self._store is None:
            return None
        found = await self._store.checkpointer.aget_tuple(_place(run_id))
        if found is None:
            return None
        kept: dict[str, Any] = found.checkpoint["channel_values"]["turn"]
        if kept["fingerprint"] != fingerprint:
            raise other_request()
        if not for_ever and time.time() - kept["at"] > self._seconds:
            return None
        return kept["completion"]

    async def keep(
        self, run_id: str, fingerprint: str, for_ever: bool, completion: Completion
    ) -> None:
        """Keep a turn, and drop those whose time is over; the arguments are those of `find`."""
        if self._store is None:
            return
        saver, at = self._store.checkpointer, time.time()
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {
            "turn": {"completion": completion, "fingerprint": fingerprint, "at": at}
        }
        checkpoint["channel_versions"] = {"turn": "1"}
        metadata = CheckpointMetadata(source="input", step=-1, parents={})
        await saver.aput(_place(run_id), checkpoint, metadata, {"turn": "1"})
        if not for_ever:
            self._kept.append((at, run_id))
        while self._kept and at - self._kept[0][0] > self._seconds:
            _, old = self._kept.popleft()
            if old != run_id:
                await saver.adelete_thread(_thread(old))


def _thread(run_id: str) -> str:
    return f"{run_id}-turn"


def _place(run_id: str) -> RunnableConfig:
    return RunnableConfig(configurable={"thread_id": _thread(run_id), "checkpoint_ns": ""})
