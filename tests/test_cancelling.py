"""A run that is cancelled, wherever it was, can be resumed."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest

from tpo_graph import aoptimize, aresume
from tpo_graph.errors import RunNotFoundError
from tpo_graph.graph import DeeperOrStop
from tpo_graph.store import open_store
from tpo_graph.testing import ScriptedChatModel, draft_then_improve, prefer_longer


class Slow(ThreadPoolExecutor):
    """Threads that take their time, as those of a busy machine do: many turns of the loop."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        def late() -> Any:
            time.sleep(0.002)
            return fn(*args, **kwargs)

        return super().submit(late)


async def cancelled_after(turns: int, work: Any) -> bool:
    """Let the event loop turn so often, then cancel; whether the work had not ended before."""
    task = asyncio.ensure_future(work)
    for _ in range(turns):
        await asyncio.sleep(0)
        if task.done():
            break
    stopped = task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return stopped


async def test_a_run_that_is_cancelled_anywhere_can_be_resumed(sqlite_url: str) -> None:
    asyncio.get_running_loop().set_default_executor(Slow())
    options: dict[str, Any] = {
        "model": ScriptedChatModel(replies=draft_then_improve),
        "reward_model": prefer_longer,
    }
    resumed = 0
    async with open_store(sqlite_url) as store:
        turns = 0
        while turns < 200_000:  # a busy machine turns often while its threads wait for a core
            run = aoptimize(
                "Hello?", depth=1, width=2, database=store, run_id=str(turns), **options
            )
            if not await cancelled_after(turns, run):
                break
            with suppress(RunNotFoundError):  # it had not begun
                result = await aresume(str(turns), database=store, **options)
                assert result.stop_reason == "depth", turns
                assert len(result.history) == 2, turns
                resumed += 1
            turns += max(150, turns // 25)
        else:
            pytest.fail("the run was not over after 200,000 turns of the event loop")
    assert resumed > 5


async def test_a_run_whose_select_was_cut_short_by_an_earlier_version_selects_again(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CutShort(DeeperOrStop):
        async def ainvoke(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("cut short")

    options: dict[str, Any] = {
        "model": ScriptedChatModel(replies=draft_then_improve),
        "reward_model": prefer_longer,
        "database": sqlite_url,
    }
    with monkeypatch.context() as patch:
        patch.setattr("tpo_graph.graph.DeeperOrStop", CutShort)
        with pytest.raises(RuntimeError, match="cut short"):
            await aoptimize("Hello?", depth=1, width=2, run_id="r", **options)
    result = await aresume("r", **options)
    assert (result.stop_reason, len(result.history)) == ("depth", 2)
