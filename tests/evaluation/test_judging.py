"""Win rates by a judge: both orders must agree, a failure is no tie, nothing is asked twice."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.judging import VERDICTS, Judge, Outcome, Question, by_score, win_rate
from tpo_graph.rewards.pairwise import PairwiseJudge
from tpo_graph.testing import ScriptedChatModel

Prefers = Callable[[str, str], str]
ASKED = [Turn(role="user", content="Which is it?")]


def judge_that(prefers: Prefers, folder: Path | None = None) -> tuple[Judge, ScriptedChatModel]:
    def reply(messages, index):
        a, b = (messages[1].text.split(f"<{x}-")[1].splitlines()[1] for x in "AB")
        given = prefers(a, b)
        return given if given.startswith("no") else json.dumps({"reasons": "…", "verdict": given})

    model = ScriptedChatModel(replies=reply)
    return Judge(PairwiseJudge(model), folder), model


def longer(a: str, b: str) -> str:
    return "tie" if len(a) == len(b) else "A+" if len(a) > len(b) else "B++"


def ask(first: str, second: str, row: str = "r") -> Question:
    return Question(row, 0, ASKED, first, second)


async def verdicts(judge: Judge, *questions: Question) -> list[str]:
    return [outcome.verdict for outcome in await judge.outcomes(questions)]


async def test_both_orders_must_agree():
    judge, _ = judge_that(longer)
    asked = [ask("long one", "short"), ask("short", "long one"), ask("abc", "xyz")]
    assert await verdicts(judge, *asked) == ["win", "loss", "tie"]
    always_a, _ = judge_that(lambda a, b: "A++")
    assert await verdicts(always_a, *asked) == ["inconsistent"] * 3
    half, _ = judge_that(lambda a, b: "A+" if a == "long one" else "tie")
    assert await verdicts(half, asked[0]) == ["inconsistent"]


async def test_equal_answers_are_a_tie_for_which_nobody_is_asked():
    judge, model = judge_that(longer)
    assert await verdicts(judge, ask("same", "same")) == ["tie"]
    assert model.calls == []


async def test_a_failure_is_counted_and_no_tie():
    judge, _ = judge_that(lambda a, b: "no idea" if "odd" in a + b else longer(a, b))
    questions = [ask("odd", "x", "1"), ask("longer", "x", "2"), ask("x", "longer", "3")]
    found = win_rate("judge", judge.name, await judge.outcomes(questions))
    assert (found.wins, found.ties, found.losses, found.failed) == (1, 0, 1, 1)
    assert found.rate is not None
    assert found.rate.value == 0.5
    assert "no verdict, twice" in (found.error or "")


async def test_a_judge_that_never_says_anything_is_soon_left_alone():
    judge, model = judge_that(lambda a, b: "no")
    for number in range(40):
        assert await verdicts(judge, ask("one", "two", str(number))) == ["failed"]
    assert len(model.calls) <= 10 * 4
    found = win_rate("judge", judge.name, await judge.outcomes([ask("one", "two")]))
    assert (found.rate, found.ties, found.failed) == (None, 0, 1)


async def test_verdicts_are_kept_and_not_paid_for_again(tmp_path: Path):
    questions = [ask("long one", "short"), ask("a", "bc")]
    judge, model = judge_that(longer, tmp_path / "new")
    expected = await judge.outcomes(questions)
    assert len(model.calls) == 4
    file = tmp_path / "new" / VERDICTS
    whole = file.read_text()
    again, model = judge_that(longer, tmp_path / "new")
    assert await again.outcomes(questions) == expected
    assert model.calls == []
    # A line that was cut off by a kill is asked again, and spoils none that follow.
    file.write_text(whole[:-30])
    for calls in (2, 0):
        cut, model = judge_that(longer, tmp_path / "new")
        assert await cut.outcomes(questions) == expected
        assert len(model.calls) == calls


async def test_another_judge_is_asked_all(tmp_path: Path):
    judge, _ = judge_that(longer, tmp_path)
    await judge.outcomes([ask("long one", "short")])
    model = ScriptedChatModel(replies=[json.dumps({"reasons": "", "verdict": "tie"})])
    other = Judge(PairwiseJudge(model, criteria="being kind"), tmp_path)
    assert await verdicts(other, ask("long one", "short")) == ["tie"]


def test_a_file_of_verdicts_that_is_none(tmp_path: Path):
    (tmp_path / VERDICTS).write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match=r"verdicts.*cannot be read"):
        judge_that(longer, tmp_path)


def test_by_score_and_the_rate_over_prompts():
    assert [by_score("a", 0, *scores).verdict for scores in [(2, 1), (1, 1), (0, 1)]] == [
        "win",
        "tie",
        "loss",
    ]
    # Three seeds of one prompt weigh as much as one of another.
    outcomes = [Outcome("a", seed, "win") for seed in range(3)] + [Outcome("b", 0, "loss")]
    found = win_rate("reward", "r", outcomes)
    assert (found.wins, found.losses) == (3, 1)
    assert found.rate is not None
    assert found.rate.value == 0.5
