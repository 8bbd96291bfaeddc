"""The bench of real tasks: rewards that say what failed, results that resume, controls."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

from langchain_core.messages import BaseMessage

from benchmarks.real import humaneval, requirements
from benchmarks.real.rewrites import STANDING, Plan, measure, read
from benchmarks.real.table import table
from benchmarks.real.tasks import Task
from tpo_graph.rewards import Score
from tpo_graph.testing import ScriptedChatModel

PROBLEM = {
    "task_id": "HumanEval/0",
    "entry_point": "double",
    "prompt": 'def double(n):\n    """Twice n.\n    >>> double(2)\n    4\n'
    '    >>> double(0)\n    0\n    """\n',
    "test": "def check(f):\n    assert f(5) == 10",
}


def test_code_is_rewarded_by_its_examples_and_scored_by_hidden_tests(tmp_path: Path):
    path = tmp_path / "HumanEval.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(PROBLEM).encode()))
    (task,) = humaneval.load(path)
    right = task.reward("Here:\n```python\ndef double(n):\n    return 2 * n\n```")
    wrong = task.reward("```python\ndef double(n):\n    return n * n * n\n```")
    assert (right, right.reason) == (1.0, "")
    assert (wrong, wrong.reason) == (0.5, "double(2) gave 8; it should give 4.")
    memorised = "def double(n):\n    return {2: 4, 0: 0}[n]"
    assert (task.reward(memorised), task.score(memorised)) == (1.0, 0.0)
    assert task.reward("def double(n):\n    while True: x = [0] * 10**10") == 0.0


def test_requirements_name_what_is_unmet_and_hide_one_from_the_reward():
    tasks = requirements.load()
    assert {task.part for task in tasks} == {"development", "held-out"}
    for task in tasks:
        reward = task.reward("")
        told = [line[2:] for line in task.request.splitlines() if line.startswith("- ")]
        assert len(told) == 5
        assert told[4] not in reward.reason
        assert (1 - reward) * 4 == sum(line in reward.reason for line in told[:4])


async def test_arms_start_from_the_best_first_sample_and_a_second_call_asks_nothing(
    tmp_path: Path,
):
    def play(messages: Sequence[BaseMessage], index: int) -> str:
        prompt = messages[-1].text
        if "</improved_answer>" in prompt:
            return "<improved_answer>" + ("none" if STANDING in prompt else "xxxx") + "!"
        return "critique" if "<chosen_answer>" in prompt else "x" * (index + 1)

    model = ScriptedChatModel(replies=play)
    task = Task("toy/1", "say x", lambda text: Score(text.count("x") / 9, "few"), lambda _: 0.0)
    store = tmp_path / "store.jsonl"
    plan = Plan("m", model, ["tpo", "none:tpo"], store, firsts=3, rewrites=2)
    await measure(plan, [task])
    asked = len(model.calls)
    with store.open("a") as file:
        file.write('{"task": "cut sho')
    first, critiqued, control = read(store)
    assert critiqued["chosen"] == control["chosen"] == first["texts"][2]
    assert control["texts"] == ["none!", "none!"]
    await measure(plan, [task])
    assert len(model.calls) == asked
    lines = table(read(store), task.part).splitlines()[2:]
    assert [line.split(" | ")[1] for line in lines] == ["none:tpo", "tpo"]
    assert "100% / 0% / 0%" in lines[1]
