"""A model server that is away: calls to it wait, one of them asks again now and then, all resume.

A batch must outlive a server that restarts and a quota that is used up for an hour. Every call to a
policy, critic or reward model inside `waiting` goes through `reached`: what fails because nobody
answers is made again once somebody does, so that a run keeps all that it has paid for, and no row
is blamed.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from langchain_core.exceptions import ContextOverflowError

from tpo_graph.errors import (
    ConfigurationError,
    RewardInputError,
    ServerAwayError,
    causes,
    error_line,
)

T = TypeVar("T")

WAIT_SECONDS = 1800.0
"""How long a server is waited for when nothing else is said."""
_UNKNOWN_SECONDS = 60.0
"""How long at most, if it has not answered once: its address may be wrong."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_POLL_SECONDS = 0.2
_STRIKES = 3
"""How often one call may fail while others are answered before it is taken to be the reason."""
_AWAY = (429, 502, 503, 529)
_UNREACHED = (
    "APIConnectionError",
    "ClientConnectorError",
    "ServerDisconnectedError",
    "ConnectError",
    "NetworkError",
    "RemoteProtocolError",
    "ConnectionError",
)
"""Classes of openai and its kin, aiohttp and httpx, and of Python itself."""

logger = logging.getLogger(__name__)


def is_away(error: BaseException | None) -> bool:
    """Whether the server that was asked is not there, or takes no requests at the moment."""
    found = False
    for cause in causes(error):
        if isinstance(cause, ServerAwayError):
            return False  # it was waited for already
        names = {kind.__name__ for kind in type(cause).__mro__}
        if "APITimeoutError" in names:
            return False  # there, and slow
        status = _status(cause)
        found |= status in _AWAY or (status is None and not names.isdisjoint(_UNREACHED))
    return found


def _status(error: BaseException) -> int | None:
    """The HTTP status behind an exception of any provider's package."""
    response: object = getattr(error, "response", None)
    body: object = getattr(error, "body", None)
    told = cast("dict[str, Any]", body).get("code") if isinstance(body, dict) else None
    found = (getattr(error, "status_code", None), getattr(response, "status_code", None))
    every = (*found, getattr(error, "code", None), told)
    return next((status for status in every if isinstance(status, int) and status >= 400), None)


def may_pass(error: BaseException | None) -> bool:
    """Whether the same request may succeed another time: nothing says that it is at fault."""
    at_fault = ConfigurationError | RewardInputError | ContextOverflowError
    return not any(
        isinstance(cause, at_fault)
        or (400 <= (_status(cause) or 0) < 500 and _status(cause) not in (408, 409, 429))
        for cause in causes(error)
    )


def gave_up(error: BaseException | None) -> ServerAwayError | None:
    """The `ServerAwayError` behind an error, if it is one."""
    return next((cause for cause in causes(error) if isinstance(cause, ServerAwayError)), None)


@dataclass
class _Outage:
    """One server's absence."""

    since: float
    """On the monotonic clock, as are all times here."""
    deadline: float
    error: Exception
    retry_at: float
    pause: float = _FIRST_PAUSE
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Whoever holds it asks next; asyncio's locks are fair, so every call has its turn."""


class ServerWait:
    """Waits for model servers on behalf of many runs; belongs to one event loop.

    Args:
        limit: seconds that a server may be away; 0: it is not waited for at all.
        stopping: whether the runs are to stop; waiting ends then.
        on_change: called when an outage begins (with its error) and when it is over (None).

    Raises:
        ConfigurationError: the limit is negative.
    """

    def __init__(
        self,
        limit: float = WAIT_SECONDS,
        *,
        stopping: Callable[[], bool] = lambda: False,
        on_change: Callable[[Exception | None], None] | None = None,
    ) -> None:
        if not limit >= 0:
            raise ConfigurationError(f"wait_for_server={limit!r} must be 0 or more seconds")
        self._limit = limit
        self._stopping = stopping
        self._on_change = on_change
        self._outages: dict[str, _Outage] = {}
        self._answers: dict[str, int] = {}

    @property
    def away(self) -> bool:
        """Whether a server is being waited for."""
        now = time.monotonic()
        return not self._stopping() and any(
            now < outage.deadline for outage in self._outages.values()
        )

    def said(self) -> str | None:
        """For which server, until when, and why, in one line; None while all answer."""
        if not self._outages:
            return None
        name, outage = min(self._outages.items(), key=lambda item: item[1].deadline)
        until = time.gmtime(time.time() + outage.deadline - time.monotonic())
        return (
            f"waiting for {name!r} until {time.strftime('%H:%M:%SZ', until)}: "
            f"{error_line(outage.error)[:160]}"
        )

    async def reached(self, name: str, attempt: Callable[[], Awaitable[T]]) -> T:
        """The result of `attempt()`, made again as long as the server `name` is away.

        Raises:
            ServerAwayError: it was away for too long, or the runs are to stop meanwhile.
            Exception: whatever else `attempt` raises.
        """
        strikes, answers, failed = 0, -1, False
        while True:
            outage = self._outages.get(name)
            asked_at = time.monotonic()
            try:
                if outage is None:
                    result = await attempt()
                else:
                    async with outage.turn:
                        await self._pause(name, outage, failed)
                        asked_at = time.monotonic()
                        result = await attempt()
            except Exception as error:
                if isinstance(error, ServerAwayError):
                    raise
                if not self._limit or not is_away(error):
                    if not isinstance(error, TimeoutError):
                        self._over(name, asked_at)  # somebody refused this request
                    raise
                if self._answers.get(name, 0) != answers:
                    answers = self._answers.get(name, 0)
                    # A quota refuses anybody; a connection may break because of what was sent.
                    strikes += _status(error) != 429
                if strikes > _STRIKES:
                    raise
                failed = True
                self._failed(name, error, outage)
            else:
                self._answers[name] = self._answers.get(name, 0) + 1
                self._over(name, asked_at)
                return result

    def _failed(self, name: str, error: Exception, asked: _Outage | None) -> None:
        now = time.monotonic()
        outage = self._outages.get(name)
        if outage is None:
            known = self._answers.get(name, 0) > 0
            limit = self._limit if known else min(self._limit, _UNKNOWN_SECONDS)
            self._outages[name] = _Outage(now, now + limit, error, now + _FIRST_PAUSE)
            logger.warning("%s", self.said())
            if self._on_change is not None:
                self._on_change(error)
            return
        outage.error = error
        if asked is outage:
            outage.pause = min(2 * outage.pause, _LONGEST_PAUSE)
            outage.retry_at = now + outage.pause

    def _over(self, name: str, asked_at: float) -> None:
        outage = self._outages.get(name)
        # What was asked before it began may be answered late.
        if outage is not None and outage.since <= asked_at:
            del self._outages[name]
            logger.warning("%r answers after %.0f s", name, time.monotonic() - outage.since)
            if self._on_change is not None and not self._outages:
                self._on_change(None)

    async def _pause(self, name: str, outage: _Outage, failed: bool) -> None:
        """Return when this call may ask, be it as a probe or because the server is back."""
        while self._outages.get(name) is outage:
            now = time.monotonic()
            if self._stopping():
                raise ServerAwayError(f"stopped while {name!r} was away") from outage.error
            if now >= outage.deadline and not failed:
                return  # it was waited for long enough, and may be back by now
            if now >= outage.deadline:
                away = now - outage.since
                hint = (
                    "It has not answered once: is its address right?"
                    if not self._answers.get(name)
                    else "Start it, or wait for its quota."
                )
                raise ServerAwayError(
                    f"{name!r} was away for {away:.0f} s. {hint} {error_line(outage.error)}"
                ) from outage.error
            if now >= outage.retry_at:
                return
            await asyncio.sleep(min(_POLL_SECONDS, outage.retry_at - now))


_current: ContextVar[ServerWait | None] = ContextVar("tpo_server_wait", default=None)


@contextmanager
def waiting(wait: ServerWait) -> Generator[None]:
    """Let calls to model servers inside wait for them."""
    token = _current.set(wait)
    try:
        yield
    finally:
        _current.reset(token)


async def reached(name: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """`attempt()`, made again while the server `name` is away, if this run waits for servers."""
    wait = _current.get()
    return await (attempt() if wait is None else wait.reached(name, attempt))
