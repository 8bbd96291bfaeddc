"""Plain functions as reward models."""

import asyncio
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import covariance
from typing import Any

import pytest

from tpo_graph import optimize
from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError, RewardError, RewardInputError
from tpo_graph.rewards import (
    FunctionReward,
    LengthPenalty,
    Score,
    as_reward_model,
    checked_scores,
    reuses_scores,
    score_each,
)
from tpo_graph.testing import ScriptedChatModel

HISTORY = [
    Turn(role="system", content="Be brief."),
    Turn(role="user", content="first"),
    Turn(role="assistant", content="ok"),
    Turn(role="user", content="second"),
]


def length(query: str, response: str) -> float:
    return float(len(query) + len(response))


def counts(word: object, query: str, response: str) -> float:
    return float(response.count(str(word)))


async def slow_length(query: str, response: str) -> float:
    await asyncio.sleep(0)
    return length(query, response)


@pytest.mark.parametrize("function", [length, slow_length, partial(length), partial(slow_length)])
async def test_query_is_the_last_user_message(function):
    assert await FunctionReward(function).score(HISTORY, ["", "four"]) == [6.0, 10.0]


async def test_what_a_plain_function_returns_is_awaited_if_need_be():
    asked: list[str] = []

    async def ask(query: str, response: str) -> float:
        await asyncio.sleep(0)
        asked.append(response)
        if response == "bad":
            raise ValueError("cannot be read")
        return float(len(response))

    known = {"kept": 7.0}
    wrapped = FunctionReward(lambda q, r: known[r] if r in known else ask(q, r))
    assert await checked_scores(wrapped, HISTORY, ["a", "kept", "bbb"]) == [1.0, 7.0, 3.0]
    one, bad, two = await score_each(wrapped, HISTORY, ["a", "bad", "kept"])
    assert (one, two, str(bad)[-26:]) == (1.0, 7.0, "ValueError: cannot be read")

    def begins_and_fails(query: str, response: str):
        if response == "never":
            raise ConnectionError("refused")
        return ask(query, "begun for nothing")  # closed: Python would warn

    with pytest.raises(RewardError, match="ConnectionError: refused"):
        await checked_scores(FunctionReward(begins_and_fails), HISTORY, ["a", "never"])
    assert "begun for nothing" not in asked


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


@pytest.mark.parametrize("wrong", [lambda r: 1.0, lambda q, r, x: 1.0, partial(length, "q", "r")])
def test_a_function_of_other_arguments_is_refused_when_it_is_given(wrong):
    with pytest.raises(ConfigurationError, match=r"must take \(query, response\)"):
        as_reward_model(wrong)


async def test_a_wrong_return_value_is_shown():
    with pytest.raises(RewardError, match="returned 'seven' for response 0"):
        await checked_scores(FunctionReward(lambda q, r: "seven"), HISTORY, ["a"])


async def test_a_response_that_the_function_cannot_read_costs_no_other_its_score():
    model = FunctionReward(lambda q, r: float(r))
    one, bad, two = await score_each(model, HISTORY, ["1", "one", "2"])
    assert (one, two) == (1.0, 2.0)
    assert isinstance(bad, RewardInputError)
    assert "ValueError: could not convert string to float: 'one'" in str(bad)

    def unreachable(query, response):
        raise ConnectionError("refused")

    with pytest.raises(RewardError, match="ConnectionError: refused") as caught:
        await score_each(FunctionReward(unreachable), HISTORY, ["a", "b"])
    assert not isinstance(caught.value, RewardInputError)


@pytest.mark.parametrize("ending", [StopIteration(), SystemExit(2)])
async def test_a_function_that_ends_more_than_itself_costs_one_response_its_score(ending):
    def sync(query, response):
        if response == "bad":
            raise ending
        return 1.0

    async def one_that_waits(query, response):
        if response == "bad":
            raise SystemExit(2)
        return 1.0

    for function in (sync, one_that_waits):
        scores = await score_each(FunctionReward(function), HISTORY, ["good", "bad", "fine"])
        assert [type(score) for score in scores] == [Score, RewardInputError, Score]
        assert type(ending).__name__ in str(scores[1]) or function is one_that_waits


async def test_an_integer_too_large_for_a_float_is_a_score_that_is_not_finite():
    one, huge = await score_each(FunctionReward(lambda q, r: 10 ** int(r)), HISTORY, ["0", "400"])
    assert one == 1.0
    assert isinstance(huge, RewardInputError)


def test_the_name_says_which_function_and_which_source():
    name = FunctionReward(length).name
    assert name.startswith(f"function:{__name__}.length@")

    def make(bonus):
        return (lambda q, r: 1.0) if bonus else (lambda q, r: 2.0 + len(r))

    assert FunctionReward(length).name == name
    assert FunctionReward(length).name != FunctionReward(slow_length).name
    assert FunctionReward(partial(counts, "x")).name != FunctionReward(partial(counts, "y")).name
    assert FunctionReward(make(True), name="mine").name == "mine"


class Keyword:
    def __init__(self, word: str) -> None:
        self.word = word

    def score(self, query: str, response: str) -> float:
        return float(response.count(self.word))

    __call__ = score


@dataclass(frozen=True)
class Settings:
    word: str
    weights: dict[str, float] = field(default_factory=lambda: {"a": 1.0})
    pattern: re.Pattern[str] = re.compile("x+")


def closure(word: object):
    def reward(query, response):
        return float(response.count(str(word)))

    return reward


def nested(word: str):
    inner = closure(word)
    return lambda query, response: inner(query, response) + 1.0


def default(word: str):
    def reward(query, response, *, looked_for=word):
        return float(response.count(looked_for))

    return reward


def one_line():
    return (lambda q, r: float(len(r)), lambda q, r: float(len(q)))


def reading(word: str, source: str = "def reward(q, r): return float(r.count(helper(q)))"):
    """A function that reads a function of its module, which reads a global."""
    names: dict[str, Any] = {"__name__": "snippet", "WORD": word}
    exec(f"{source}\ndef helper(q): return WORD", names)  # noqa: S102
    return names["reward"]


MAKERS = {
    "bound method": lambda word: Keyword(word).score,
    "callable object": Keyword,
    "closure": closure,
    "closure over a set": lambda word: closure(frozenset([word, "b", "c", "d"])),
    "closure over a dataclass": lambda word: closure(Settings(word)),
    "closure over a method": lambda word: nested(Keyword(word).word),
    "function in a closure": nested,
    "default": default,
    "partial": lambda word: partial(counts, word),
    "partial of a method": lambda word: partial(Keyword(word).score),
    "global of a function that it calls": reading,
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_functions_of_one_source_and_other_values_have_other_names(make):
    one, again, other = (FunctionReward(make(word)) for word in ("apple", "apple", "pear"))
    assert one.name == again.name != other.name
    assert one.nameless is None


def test_what_a_function_writes_down_is_not_part_of_its_name():
    calls: list[str] = []
    known: dict[str, float] = {}
    count = 0

    def reward(query, response):
        nonlocal count
        count += 1
        calls.append(response)
        known[response] = 1.0
        return 1.0

    class Counting(Keyword):
        calls = 0

        def __call__(self, query, response):
            self.calls += 1
            return self.score(query, response)

    made = Counting("x")
    for function in (reward, made, made.__call__):
        name = FunctionReward(function).name
        function("q", "a")
        assert FunctionReward(function).name == name
    assert FunctionReward(made).name != FunctionReward(Counting("y")).name


def test_lambdas_of_one_line_have_names_of_their_own():
    assert len({FunctionReward(function).name for function in one_line()}) == 2


def reads_a_file(query: str, response: str) -> float:
    return float(Path(query).read_text() == response)


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (closure(threading.Lock()), "'word'"),
        (closure(iter("ab")), "'word'"),
        (closure(list(range(100_000))), "too large"),
        (reads_a_file, "'read_text'"),
        (partial(counts, object()), "object"),
    ],
)
def test_what_cannot_be_told_from_others_has_no_stored_scores(function, why, caplog, tmp_path):
    model = FunctionReward(function)
    assert why in (model.nameless or "")
    for made in (model, LengthPenalty(model, 0.1)):
        assert not reuses_scores(made)
    caplog.clear()
    assert not reuses_scores(model)
    assert not caplog.records  # told once for each name
    named = FunctionReward(function, name="mine-1")
    assert reuses_scores(named)
    assert named.name == "mine-1"


def test_a_run_does_not_take_the_scores_of_another_unnamed_function(tmp_path, caplog):
    def answer(word, name=None):
        opaque = [threading.Lock()]
        function = lambda q, r: float(r.count(word)) if opaque else 0.0  # noqa: E731
        return optimize(
            "Q",
            model=ScriptedChatModel(replies=["apple apple", "pear"]),
            reward_model=FunctionReward(function, name=name) if name else function,
            depth=0,
            width=2,
            database=f"sqlite:///{tmp_path}/tpo.db",
        ).response

    assert answer("apple") == "apple apple"
    assert answer("pear") == "pear"
    assert "Name it: FunctionReward(function, name=" in caplog.text
    assert answer("apple", name="word-1") == answer("pear", name="word-1")  # by the name they share


def test_the_name_is_the_same_in_another_process():
    code = "from tpo_graph.rewards import FunctionReward as F; from statistics import covariance\n"
    code += "from tests.rewards.test_function import MAKERS\n"
    code += "print(F(covariance).name, F(max).name, *(F(m('a')).name for m in MAKERS.values()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    here = [covariance, max, *(make("a") for make in MAKERS.values())]
    assert done.stdout.split() == [FunctionReward(function).name for function in here]


def test_a_function_whose_file_is_not_python_has_a_name(tmp_path: Path):
    document = tmp_path / "snippet.md"
    document.write_text('Text with """ a quote that never ends\n', encoding="utf-8")
    names: dict[str, Any] = {"__name__": "snippet"}
    code = "def reward(query, response):\n    return 1.0\n"
    exec(compile(code, str(document), "exec"), names)  # noqa: S102
    assert FunctionReward(names["reward"]).name.startswith("function:snippet.reward@")


async def test_errors_say_where_a_function_stands_and_a_given_name_where_there_is_one():
    def broken(query: str, response: str) -> float:
        return 1 / 0

    line = broken.__code__.co_firstlineno
    for reward, called in (
        (FunctionReward(broken), f"reward function broken (test_function.py:{line}) failed"),
        (FunctionReward(broken, name="mine-1"), "reward model 'mine-1' failed"),
    ):
        with pytest.raises(RewardError) as error:
            await reward.score([{"role": "user", "content": "q"}], ["a"])
        assert str(error.value).startswith(called)
