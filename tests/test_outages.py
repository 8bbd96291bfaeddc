"""Waiting for a server: whose turn it is, what is taken for an outage, and when waiting ends."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tpo_graph.concurrency import outages
from tpo_graph.concurrency.outages import ServerWait, is_away, may_pass
from tpo_graph.errors import RewardError, RewardInputError, ServerAwayError


class StatusError(Exception):
    def __init__(self, status_code: int) -> None:
        super().__init__(f"status {status_code}")
        self.status_code = status_code


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outages, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(outages, "_LONGEST_PAUSE", 0.02)


def failing(
    times: int, error: Exception, calls: list[int]
) -> Callable[[], Coroutine[Any, Any, str]]:
    async def attempt() -> str:
        calls.append(1)
        await asyncio.sleep(0)
        if len(calls) <= times:
            raise error
        return "answer"

    return attempt


@pytest.mark.parametrize(
    ("error", "away", "passing"),
    [
        (StatusError(503), True, True),
        (StatusError(429), True, True),
        (StatusError(500), False, True),
        (StatusError(400), False, False),
        (ConnectionRefusedError(), True, True),
        (TimeoutError(), False, True),
        (caused(RewardError("x"), StatusError(502)), True, True),
        (RewardInputError("too long"), False, False),
        (caused(RewardError("x"), ServerAwayError("waited for")), False, True),
    ],
)
def test_what_is_waited_for_and_what_is_retried(
    error: Exception, away: bool, passing: bool
) -> None:
    assert (is_away(error), may_pass(error)) == (away, passing)


async def test_a_call_that_breaks_the_server_is_taken_for_the_reason() -> None:
    wait = ServerWait(60)
    poison: list[int] = []

    async def others() -> None:
        for _ in range(20):
            await wait.reached("s", failing(0, ConnectionResetError(), []))
            await asyncio.sleep(0.01)

    with pytest.raises(ConnectionResetError):
        await asyncio.gather(
            others(), wait.reached("s", failing(99, ConnectionResetError(), poison))
        )
    assert 3 < len(poison) < 10


async def test_one_asks_while_the_others_wait_and_servers_are_told_apart() -> None:
    changes: list[bool] = []
    wait = ServerWait(60, on_change=lambda error: changes.append(error is not None))
    calls: list[int] = []
    attempt = failing(9, StatusError(429), calls)
    waiting = [wait.reached("a", attempt) for _ in range(6)]
    free = wait.reached("b", failing(0, StatusError(429), []))
    assert await asyncio.gather(free, *waiting) == ["answer"] * 7
    # All six once, then one by one until the tenth is answered, then all that are left.
    assert len(calls) == 15
    assert changes == [True, False]
    assert wait.said() is None


async def test_waiting_ends_at_its_limit_or_when_the_runs_are_to_stop() -> None:
    stop: list[int] = []
    wait = ServerWait(0.1, stopping=lambda: bool(stop))
    attempt = failing(10**9, StatusError(503), [])
    with pytest.raises(ServerAwayError, match="has not answered once: is its address right"):
        await wait.reached("s", attempt)
    assert not wait.away
    # Later calls ask once, and wait no more until somebody is answered.
    once: list[int] = []
    with pytest.raises(ServerAwayError):
        await wait.reached("s", failing(9, StatusError(503), once))
    assert len(once) == 1
    assert await wait.reached("s", failing(0, StatusError(503), [])) == "answer"
    assert await wait.reached("s", failing(2, StatusError(503), [])) == "answer"
    stop.append(1)
    with pytest.raises(ServerAwayError, match="stopped while"):
        await wait.reached("s", attempt)
