"""The sync side of the library: one long-lived event loop in a daemon thread.

Everything is written once, async. A sync call hands its coroutine to this loop and waits, so it
works inside a running loop (a notebook) too, and HTTP clients always meet the same loop again.
"""

import asyncio
import atexit
import functools
import inspect
import os
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from typing import Any, ParamSpec, TypeVar, get_args, overload

P = ParamSpec("P")
T = TypeVar("T")

_CLOSING_SECONDS = 3.0
"""How long the end of the process may be held up by what is still to be closed."""

_THREADS = 64

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


@overload
def sync(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]: ...
@overload
def sync(function: Callable[P, AsyncGenerator[T]]) -> Callable[P, list[T]]: ...
def sync(function: Callable[P, Any]) -> Callable[P, Any]:
    """The sync form of an async function whose name begins with "a": same arguments, and it waits.

    Of an async generator it collects everything.
    """

    async def collected(*args: P.args, **kwargs: P.kwargs) -> list[Any]:
        async with aclosing(function(*args, **kwargs)) as results:
            return [result async for result in results]

    many = inspect.isasyncgenfunction(function)
    called = collected if many else function

    @functools.wraps(function)
    def waits(*args: P.args, **kwargs: P.kwargs) -> Any:
        return run_in_background(called(*args, **kwargs))

    waits.__name__ = waits.__qualname__ = function.__name__.removeprefix("a")
    if many:
        signature = inspect.signature(function)
        (each, *_) = get_args(signature.return_annotation)
        vars(waits)["__signature__"] = signature.replace(return_annotation=list[each])
    return waits


def _background_loop() -> asyncio.AbstractEventLoop:
    with _lock:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = asyncio.new_event_loop()
            # For models and rewards without an async form: the usual number follows the cores, and
            # these threads only wait.
            loop.set_default_executor(ThreadPoolExecutor(_THREADS, "tpo_graph"))
            threading.Thread(target=_run, args=(loop,), name="tpo_graph", daemon=True).start()
            _loops[os.getpid()] = loop
            atexit.register(_close, os.getpid())
        return loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop for good: asyncio ends it when a task raises one of these, which its caller gets
    from the task, and everybody else would wait forever."""
    while True:
        with suppress(SystemExit, KeyboardInterrupt):
            loop.run_forever()


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
