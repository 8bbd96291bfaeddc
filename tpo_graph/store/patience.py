"""How long a database server that restarts is waited for, by all who wait for it together."""

import time

PATIENCE_SECONDS = 60.0


class Patience:
    """What several callers have left of their patience with one server.

    An outage is one for all of them: who begins to wait late does not wait as long, and who comes
    after the end does not wait at all. Otherwise a hundred runs would wait one after the other.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._last = 0.0

    def fails(self) -> float:
        """Note that the server does not answer; for how many seconds it has not done so."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        self._last = now
        return now - self._since

    def is_over(self) -> bool:
        """Whether the server was found not to answer for too long, and not to answer since."""
        return self._since is not None and self._last - self._since > PATIENCE_SECONDS

    def answers(self) -> None:
        """Note that the server answers."""
        self._since = None
