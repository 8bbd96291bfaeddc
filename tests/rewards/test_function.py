"""Plain functions as reward models."""

import asyncio
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tpo_graph.conversation import Turn
from tpo_graph.errors import RewardError
from tpo_graph.rewards import FunctionReward, checked_scores

HISTORY = [
    Turn(role="system", content="Be brief."),
    Turn(role="user", content="first"),
    Turn(role="assistant", content="ok"),
    Turn(role="user", content="second"),
]


def length(query: str, response: str) -> float:
    return float(len(query) + len(response))


async def slow_length(query: str, response: str) -> float:
    await asyncio.sleep(0)
    return length(query, response)


@pytest.mark.parametrize("function", [length, slow_length, partial(length), partial(slow_length)])
async def test_query_is_the_last_user_message(function):
    assert await FunctionReward(function).score(HISTORY, ["", "four"]) == [6.0, 10.0]


async def test_a_callable_object_works_sync_and_async():
    class Sync:
        def __call__(self, query, response):
            return len(response)

    class Async:
        async def __call__(self, query, response):
            return len(response)

    for made in (Sync(), Async()):
        assert await checked_scores(FunctionReward(made), HISTORY, ["a", "bb"]) == [1.0, 2.0]


async def test_a_sync_function_leaves_the_event_loop_free():
    released = threading.Event()

    def waits(query, response):
        return float(released.wait(10))

    async def release():
        released.set()

    scores, _ = await asyncio.gather(FunctionReward(waits).score(HISTORY, ["a"]), release())
    assert scores == [1.0]


async def test_a_wrong_return_value_is_shown():
    with pytest.raises(RewardError, match="returned 'seven' for response 0"):
        await checked_scores(FunctionReward(lambda q, r: "seven"), HISTORY, ["a"])


def test_the_name_says_which_function_and_which_source():
    name = FunctionReward(length).name
    assert name.startswith(f"function:{__name__}.length@")

    def make(bonus):
        return (lambda q, r: 1.0) if bonus else (lambda q, r: 2.0 + len(r))

    assert FunctionReward(length).name == name
    assert FunctionReward(length).name != FunctionReward(slow_length).name
    assert FunctionReward(partial(length, "x")).name != FunctionReward(partial(length, "y")).name
    assert FunctionReward(make(True), name="mine").name == "mine"


def test_the_name_is_the_same_in_another_process():
    code = "import operator; from tpo_graph.rewards import FunctionReward as F; import statistics\n"
    code += "print(F(statistics.mean).name, F(max).name)"
    runs = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
        for _ in range(2)
    }
    assert len(runs) == 1


def test_a_function_whose_file_is_not_python_has_a_name(tmp_path: Path):
    document = tmp_path / "snippet.md"
    document.write_text('Text with """ a quote that never ends\n', encoding="utf-8")
    names: dict[str, Any] = {"__name__": "snippet"}
    code = "def reward(query, response):\n    return 1.0\n"
    exec(compile(code, str(document), "exec"), names)  # noqa: S102
    assert FunctionReward(names["reward"]).name.startswith("function:snippet.reward@")
