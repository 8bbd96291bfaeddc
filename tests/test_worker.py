"""One thread per model: order, cancellation, a free event loop."""

import asyncio
import os
import signal
import threading
import warnings

import pytest

from tpo_graph.local.worker import Worker


async def test_work_runs_in_order_on_one_thread():
    worker = Worker("w")
    seen: list[tuple[int, str]] = []
    await asyncio.gather(
        *(
            worker.arun(lambda _, i=i: seen.append((i, threading.current_thread().name)))
            for i in range(5)
        )
    )
    assert [i for i, _ in seen] == list(range(5))
    assert len({name for _, name in seen}) == 1


async def test_cancelling_tells_the_work_and_drops_what_waits():
    worker = Worker("w")
    begun, told = threading.Event(), threading.Event()
    ran: list[int] = []

    def wait(cancelled: threading.Event) -> None:
        begun.set()
        if cancelled.wait(10):
            told.set()

    first = asyncio.create_task(worker.arun(wait))
    await asyncio.to_thread(begun.wait, 10)
    second = asyncio.create_task(worker.arun(lambda _: ran.append(2)))
    await asyncio.sleep(0)
    second.cancel()
    first.cancel()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert await worker.arun(lambda _: "next") == "next"
    assert told.is_set()
    assert ran == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_a_thread_of_its_own():
    worker = Worker("w")
    assert worker.run(lambda _: 1) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python 3.12 on warns of threads, which is the point here
        child = os.fork()
    if child == 0:
        signal.alarm(10)  # a child that waits for ever ends by this
        os._exit(7 if worker.run(lambda _: 2) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
