"""The background loop: one for all sync calls, with the caller's context, and no deadlock."""

import asyncio
import contextvars
import multiprocessing
import threading

import pytest

from tpo_graph.concurrency.background import run_in_background

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")


async def loop_and_value() -> tuple[int, str]:
    return id(asyncio.get_running_loop()), VARIABLE.get()


def test_every_call_meets_the_same_loop_with_its_own_context():
    VARIABLE.set("mine")
    seen: list[tuple[int, str]] = []
    thread = threading.Thread(target=lambda: seen.append(run_in_background(loop_and_value())))
    thread.start()
    thread.join()
    loop, value = run_in_background(loop_and_value())
    assert seen == [(loop, "unset")]
    assert value == "mine"


async def test_it_works_inside_a_running_loop():
    loop, _ = run_in_background(loop_and_value())
    assert loop != id(asyncio.get_running_loop())


def test_errors_come_back_as_they_are():
    async def fail() -> None:
        raise LookupError("here")

    with pytest.raises(LookupError, match="here"):
        run_in_background(fail())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt])
def test_what_would_end_the_loop_comes_back_to_its_caller_alone(ending: type[BaseException]):
    async def ends() -> None:
        raise ending

    with pytest.raises(ending):
        run_in_background(ends())
    run_in_background(asyncio.wait_for(loop_and_value(), 10))


def test_waiting_for_oneself_is_refused():
    async def nested() -> None:
        run_in_background(loop_and_value())

    with pytest.raises(RuntimeError, match="ainvoke"):
        run_in_background(nested())


def _in_child(results: "multiprocessing.SimpleQueue[str]") -> None:
    results.put(run_in_background(loop_and_value())[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_gets_a_loop_of_its_own():
    VARIABLE.set("before the fork")
    run_in_background(loop_and_value())
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(results,))
    child.start()
    child.join(20)
    assert child.exitcode == 0
    assert results.get() == "before the fork"


def test_more_blocking_calls_wait_at_once_than_there_are_cores():
    together = threading.Barrier(32, timeout=20)

    async def wait_for_all() -> None:
        await asyncio.gather(*(asyncio.to_thread(together.wait) for _ in range(32)))

    run_in_background(wait_for_all())
