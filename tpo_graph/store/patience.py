"""How long a database server that restarts is waited for, by all who wait for it together."""

import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential

from tpo_graph.store.failures import is_passing

T = TypeVar("T")

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


def retrying(is_over: Callable[[RetryCallState], bool]) -> Retrying:
    """Calls again what fails because the server is away, until that `is_over`."""
    passing, wait = retry_if_exception(is_passing), wait_exponential(0.05, max=2.0)
    return Retrying(retry=passing, wait=wait, stop=is_over, reraise=True)


def again(work: Callable[[], T], others: Patience | None) -> T:
    """The result of `work`, which is called again while the server is away. Blocks.

    Args:
        others: patience of those who write: when that is over, so is this. None: nobody waits.
    """
    if others is None:
        return work()
    own = Patience()

    def is_over(_: RetryCallState) -> bool:
        own.fails()
        return own.is_over() or others.is_over()

    return retrying(is_over)(work)
