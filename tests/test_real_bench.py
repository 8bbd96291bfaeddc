"""The bench of real tasks: rewards that say what failed, results that resume, controls."""

import gzip
import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from langchain_core.messages import BaseMessage

from benchmarks.real import busy, gsm8k, humaneval, linted, requirements, styled
from benchmarks.real.methods import best_of
from benchmarks.real.methods import measure as measure_methods
from benchmarks.real.methods import table as methods_table
from benchmarks.real.rewrites import STANDING, Plan, measure, read
from benchmarks.real.table import table
from benchmarks.real.tasks import Task
from benchmarks.real.trajectories import trajectories
from tests.openai_server import OpenAIServer
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


def test_a_linter_rewards_what_the_request_does_not_mention(tmp_path: Path):
    path = tmp_path / "HumanEval.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps(PROBLEM).encode()))
    (task,) = linted.load(path)
    assert "`double(n)`" in task.request
    assert "Twice n." in task.request
    bare = task.reward("def double(n):\n    return 2 * n\n")
    assert "Missing return type annotation" in bare.reason
    assert "Missing docstring" in bare.reason
    careful = '"""Numbers."""\n\n\ndef double(n: int) -> int:\n    """Return twice n."""\n'
    right, wrong = (task.reward(f"{careful}    return {factor} * n\n") for factor in (2, 3))
    assert (right, right.reason) == (1.0, "")
    assert (wrong, wrong.reason) == (0.75, "double(2) gave 6; it should give 4.")
    assert task.score(f"{careful}    return 2 * n\n") == 1.0
    assert task.score("def double(n):\n    return 2 * n\n") < 0.9
    assert task.reward("def double(n) return") == 0.0


def test_requirements_name_what_is_unmet_and_hide_one_from_the_reward():
    tasks = requirements.load()
    assert {task.part for task in tasks} == {"development", "held-out"}
    for task in tasks:
        reward = task.reward("")
        told = [line[2:] for line in task.request.splitlines() if line.startswith("- ")]
        assert len(told) == 5
        assert told[4] not in reward.reason
        assert (1 - reward) * 4 == sum(line in reward.reason for line in told[:4])


def test_a_style_guide_tells_the_place_and_hides_half_of_its_rules():
    task = styled.load()[0]
    assert {task.part for task in styled.load()} == {"development", "held-out"}
    wanted = re.findall(r'"(\w+)"', task.request)
    told = {
        "various": "Leave out the vague words: various.",
        "is heated": 'Do not write "is heated" (passive voice): say who does it.',
        " and so on" * 10: "Split this sentence, it has",
    }
    good = f"Why do cats purr? You hear {', '.join(wanted)}.\nTip: stay near."
    assert (task.reward(good), task.reward(good).reason) == (1.0, "")
    for flaw, message in told.items():
        worse = task.reward(good.replace("near", f"near {flaw}"))
        assert worse == pytest.approx(1 - 1 / 12, abs=1e-6)
        assert message in worse.reason
    assert task.score(good) < 1.0  # too short, which the reward does not tell
    longer = good.replace("You hear", "We listen. " * 25 + "You hear")
    assert task.score(longer) == 1.0
    assert task.score(longer.replace("We listen.", "However, there (slowly) it is.")) < 1.0
    (faults, *_) = styled.load(faults=True)
    assert (faults.id, faults.request) == (task.id, task.request)
    assert faults.reward("") == task.reward("")
    assert 'It never speaks to the reader as "you".' in faults.reward("-").reason
    assert 'Speak to the reader: use the word "you".' in task.reward("-").reason
    missing = task.reward(good.replace(wanted[0], "-"))
    assert f'Use the word "{wanted[0]}".' in missing.reason
    assert task.reward("") == task.score("") == 0.0


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
    assert "| minus tpo |" in table(read(store), task.part, against="tpo")


async def test_whole_runs_begin_with_the_samples_that_best_of_n_chooses_from(tmp_path: Path):
    def play(messages: Sequence[BaseMessage], index: int) -> str:
        prompt = messages[-1].text
        if "</improved_answer>" in prompt:
            return (
                "<improved_answer>"
                + ("xxxx" if STANDING in prompt else "x" * 8)
                + "</improved_answer>"
            )
        if "fewest changes" in prompt:
            return 'Put "xxxxxxxx" there.'
        return "critique" if "<chosen_answer>" in prompt else "x" * (index % 3 + 1)

    model = ScriptedChatModel(replies=play)
    task = Task(
        "toy/1", "say x", lambda text: Score(text.count("x") / 9, "few"), lambda t: len(t) / 8
    )
    plan = Plan("fake", model, ["tpo", "informed:tpo", "none:tpo"], tmp_path / "store.jsonl")
    for _ in range(2):
        await measure_methods(plan, [task], depth=1, samples=20)
    records = {record["arm"]: record for record in read(plan.store)}
    assert len(read(plan.store)) == 4
    assert {arm: records[arm]["score"] for arm in plan.arms} == {
        "tpo": 1.0,
        "informed:tpo": 1.0,
        "none:tpo": 0.5,
    }
    asked = ["\n".join(m.text for m in messages) for messages, _ in model.calls]
    assert sum("The chosen answer: few" in prompt for prompt in asked) == 3
    assert best_of(records["samples"], 5) == (3 / 9, 3 / 8)
    shown = methods_table(read(plan.store), task.part, against="none:tpo")
    assert "| minus none:tpo, score |" in shown
    assert "| best-of-15 | 1 | 0.333 | 0.375 | -0.125 |" in shown
    assert "| tpo | 1 | 0.889 | 1.000 | +0.500 | +0.625 |" in shown
    assert "| none:tpo | 1 | 0.444 | 0.500 |  | +0.125 |" in shown
    told = trajectories(read(plan.store), "tpo", 10)
    assert "say x" in told
    assert "they stand in 100% of the rewrites" in told
    assert "comes from step 1" in told


async def test_word_problems_are_rewarded_by_votes_that_a_second_command_counts_again(
    tmp_path: Path,
):
    problem = {"question": "9 + 9?", "answer": "9 + 9 = <<9+9=18>>18\n#### 18"}
    path, store = tmp_path / "test.jsonl", tmp_path / "store.jsonl"
    path.write_text(json.dumps(problem) + "\n", encoding="utf-8")

    def play(messages: Sequence[BaseMessage], index: int) -> str:
        prompt = messages[-1].text
        if "</improved_answer>" in prompt:
            return "<improved_answer>\\boxed{18}</improved_answer>"
        return "critique" if "<chosen_answer>" in prompt else f"So {17 + index % 2} it is."

    for arms in (["no-critique"], ["no-critique", "tpo"]):
        (task,) = gsm8k.load(path)
        plan = Plan("fake", ScriptedChatModel(replies=play), arms, store)
        await measure_methods(plan, [task], depth=1, samples=9)
    records = {record["arm"]: record for record in read(store)}
    assert len(read(store)) == 3
    assert records["samples"]["scores"] == [0, 1, 0, 1, 0, 1, 0, 1, 0]
    assert records["samples"]["rewards"][:2] == [5 / 9, 4 / 9]
    assert records["samples"]["reasons"][0] == "Of other solutions 4 say 18."
    assert records["tpo"]["reward"] == 5 / 9  # the majority's, and wrong
    assert records["tpo"]["score"] == 0
    assert task.reward("nothing") == 0.0
    assert task.score("It is $18.00.") == 1


async def test_a_batch_and_a_bare_client_ask_a_server_for_the_same_amount(
    monkeypatch: pytest.MonkeyPatch,
):
    with OpenAIServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        found = await busy.measure("m", [1, 2], rows=3, width=2, max_tokens=8, rounds=1)
        asked = [call.messages[-1]["content"] for call in server.calls]
    assert list(found) == ["bare, 1 in flight", "bare, 2 in flight", "tpo"]
    assert all(speed > 0 for speed in found.values())
    assert len(asked) == len(set(asked)) == 10  # one before, then three each, none twice
    assert "of the best (bare, " in busy.report(found)
