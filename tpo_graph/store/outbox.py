"""What a node of a run of ours has to write waits here for its checkpoint: one commit for both.

`Leases` opens a place for each run that this process holds and empties it at the end; `SqlCache`
puts rows in, the saver takes them with the checkpoint. A run inside a host graph has no place here:
its rows are committed at once.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from langgraph.checkpoint.base import ChannelVersions

from tpo_graph.store.statements import Statement


@dataclass(slots=True)
class Waiting:
    """What one run has to write."""

    begun: bool
    """Its row is written, by this process: it is a new run."""
    blank: bool
    """It has no checkpoint yet."""
    rows: list[Statement] = field(default_factory=list[Statement])
    more_follows: bool = False
    """The next node costs nothing and follows at once: its checkpoint will do for both."""
    finished: bool = False
    """`select` has ended the run: the next checkpoint is its last one."""
    late: Callable[[], list[Statement]] | None = None
    """A checkpoint that waits for the one that follows at once."""
    versions: ChannelVersions = field(default_factory=ChannelVersions)
    """What it would have been the first to store."""


class Outbox:
    """A place for each run that this process holds."""

    def __init__(self) -> None:
        self._runs: dict[str, Waiting] = {}

    def open(self, run_id: str, *, begun: bool) -> None:
        """From here on, rows of the run wait for its checkpoints."""
        self._runs[run_id] = Waiting(begun=begun, blank=begun)

    def of(self, run_id: str) -> Waiting | None:
        """The run's place, if this process holds it."""
        return self._runs.get(run_id)

    def close(self, run_id: str) -> list[Statement]:
        """What still waits; the place is gone."""
        waiting = self._runs.pop(run_id, None)
        if waiting is None:
            return []
        return [*waiting.rows, *(waiting.late() if waiting.late is not None else ())]
