"""The sync side of the library: one long-lived event loop in a daemon thread.

Everything is written once, async. A sync call hands its coroutine to this loop and waits, so it
works inside a running loop (a notebook) too, and HTTP clients always meet the same loop again.
"""

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_CLOSING_SECONDS = 3.0
"""How long the end of the process may be held up by what is still to be closed."""

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}
"""The loop of each process id: after a fork the parent's thread does not exist in the child."""


def run_in_background(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run `coroutine` on the background loop and wait for its result.

    The caller's context variables go with it (callbacks, the LangGraph runtime). An interrupt of
    the waiting thread cancels the coroutine.

    Raises:
        RuntimeError: called from the background loop itself, where waiting would be a deadlock.
    """
    loop = _background_loop()
    if _running_loop() is loop:
        coroutine.close()
        raise RuntimeError(
            "a sync call inside tpo_graph's own event loop would wait for itself forever; "
            "use the async form there (ainvoke, aoptimize)"
        )
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def _background_loop() -> asyncio.AbstractEventLoop:
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="tpo_graph", daemon=True).start()
            _loops[os.getpid()] = loop
            atexit.register(_close, os.getpid())
        return loop


def _close(process: int) -> None:
    """End what the loop still does and close what it keeps open, as the process ends.

    Work that was interrupted is cancelled and gives back its leases; HTTP clients are closed, which
    would complain on standard error otherwise.
    """
    loop = _loops.get(process)
    if process != os.getpid() or loop is None or not loop.is_running():
        return

    async def wind_down() -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_CLOSING_SECONDS / 2)
        await loop.shutdown_asyncgens()

    with suppress(Exception):
        asyncio.run_coroutine_threadsafe(wind_down(), loop).result(_CLOSING_SECONDS)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
