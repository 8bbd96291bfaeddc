"""Metrics, and what becomes of rows that cannot be scored."""

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.evaluation.benchmarks.outputs import answered, output
from tests.openai_server import OpenAIServer
from tpo_graph.errors import ConfigurationError, RewardError
from tpo_graph.evaluation.benchmarks import (
    Scoring,
    read_other_answers,
    read_outcomes,
    score,
)
from tpo_graph.evaluation.benchmarks.hh_rlhf import conversation
from tpo_graph.evaluation.benchmarks.math_500 import Grader

MATH = {
    "test/prealgebra/9001.json": "We add $\\frac{2}{6}$ and get \\boxed{0.5}.",
    "test/algebra/9002.json": "So $x = 1 + \\sqrt{19}$ or $x = 1 - \\sqrt{19}$: \\boxed{1 \\pm 19}",
    "test/precalculus/9003.json": "\\boxed{(3, \\pi/2)}",
    "test/counting_and_probability/9004.json": "I will not say.",
}


def test_pass_at_1(tmp_path: Path):
    found = score("math-500", read_outcomes(output(tmp_path / "out.jsonl", "math-500", MATH)))
    assert (found.metric, found.rows, found.scored) == ("pass@1", 4, 4)
    assert found.mean is not None
    assert found.mean.value == 0.5
    assert found.mean.low is not None
    assert found.mean.high is not None
    assert 0 <= found.mean.low < 0.5 < found.mean.high <= 1
    assert found.notes == {"responses without a final answer": 1}
    assert {name: part.mean.value for name, part in found.parts["subject"].items()} == {
        "Algebra": 0.0,
        "Counting & Probability": 0.0,
        "Prealgebra": 1.0,
        "Precalculus": 1.0,
    }
    assert found.tokens == 15
    assert found.length == sum(map(len, MATH.values())) / 4


def test_rows_without_an_answer_are_counted_and_weigh_in_the_lower_mean(tmp_path: Path):
    responses: dict[str, str | None] = {**MATH, "test/algebra/9002.json": None}
    del responses["test/precalculus/9003.json"]
    found = score("math-500", read_outcomes(output(tmp_path / "out.jsonl", "math-500", responses)))
    assert found.rows == 4 == found.scored + len(found.failed) + len(found.unfinished)
    assert found.failed == {"test/precalculus/9003.json": "PolicyError: the server is gone"}
    assert found.unfinished == ["test/algebra/9002.json"]
    assert found.mean is not None
    assert (found.mean.value, found.mean_if_wrong) == (0.5, 0.25)


@pytest.mark.parametrize(
    ("gold", "response", "right"),
    [
        ("p - q", "It is \\boxed{-q + p}", True),
        ("90^\\circ", "\\boxed{90}", True),
        ("1,\\!111", "That makes \\boxed{1111}.", True),
        ("\\text{Evelyn}", "Evelyn it is: \\boxed{\\text{Evelyn}}", True),
        ("\\text{(C)}", "\\boxed{C}", True),
        (
            "\\begin{pmatrix} -2 \\\\ 7 \\end{pmatrix}",
            "$\\boxed{\\begin{pmatrix}-2\\\\7\\end{pmatrix}}$",
            True,
        ),
        ("(3,4]", "\\boxed{(3,4)}", False),
        ("6 - 5i", "\\boxed{6+5i}", False),
        ("42", "First 41. The answer is 42.", True),
        ("42", "We saw $42$ before, but \\boxed{41}", False),
        ("42", "\\boxed{42}. Had it been 8, the final answer is $48$.", True),
        ("42", "", None),
        ("42", "nothing of the kind", None),
    ],
)
def test_final_answers_are_compared_as_mathematics(gold: str, response: str, right: bool | None):
    assert Grader().grade(response, gold) is right


def test_a_known_answer_that_cannot_be_read_is_an_error_not_a_wrong_answer(tmp_path: Path):
    row = {"id": "a", "prompt": "?", "answer": "", "response": "\\boxed{1}", "error": None}
    (tmp_path / "out.jsonl").write_text(json.dumps(row) + "\n")
    found = score("math-500", read_outcomes(tmp_path / "out.jsonl"))
    assert found.mean is None
    assert found.without_score == {"a": "the known answer '' cannot be read"}


@pytest.mark.parametrize("slow", ["parse", "verify"])
def test_what_takes_too_long_has_no_score(tmp_path: Path, monkeypatch, slow: str):
    import math_verify
    from math_verify.errors import TimeoutException

    done = getattr(math_verify, slow)

    def too_long(text: object, other: object, raise_on_error: bool = False, **limit: object):
        if "19" not in f"{text}{other}":
            return done(text, other, raise_on_error=raise_on_error, **limit)
        if raise_on_error:
            raise TimeoutException
        return False

    monkeypatch.setattr(math_verify, slow, too_long)
    found = score("math-500", read_outcomes(output(tmp_path / "out.jsonl", "math-500", MATH)))
    assert list(found.without_score) == ["test/algebra/9002.json"]
    assert "within 30 s" in found.without_score["test/algebra/9002.json"]
    assert found.scored == 3


def test_pass_at_1_in_another_thread(tmp_path: Path):
    """math-verify's time limit works in the main thread only."""
    outcomes = read_outcomes(output(tmp_path / "out.jsonl", "math-500", MATH))
    means: list[float] = []

    def work() -> None:
        found = score("math-500", outcomes)
        assert found.mean is not None
        means.append(found.mean.value)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert means == [0.5]


REWARDS = {f"beavertails-{n}": float(n * n) for n in range(4)}


def test_mean_reward_and_per_category(tmp_path: Path):
    responses: dict[str, str | None] = dict.fromkeys(REWARDS, "No.")
    file = output(tmp_path / "out.jsonl", "beavertails", responses, **REWARDS)
    found = score("beavertails", read_outcomes(file))
    assert found.mean is not None
    assert found.mean.value == 3.5
    assert not found.share
    assert found.mean_if_wrong is None
    privacy = found.parts["category"]["privacy_violation"]
    assert (privacy.rows, privacy.mean.value) == (2, 5.0)
    assert found.notes == {"rewards by": "the reward model that was optimised"}


class Counts:
    name = "counts-turns"

    async def score(self, conversation, responses):
        if "charge" in conversation[-1]["content"]:
            raise RewardError("no charges")
        return [float(len(conversation) * len(response)) for response in responses]


def test_mean_reward_by_another_reward_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "tpo_graph.evaluation.benchmarks.rewarded.load_reward_model", lambda _: Counts()
    )
    outcomes = read_outcomes(answered(tmp_path / "out.jsonl", "hh-rlhf"))
    found = score("hh-rlhf", outcomes, Scoring(reward_model="local:another"))
    assert found.mean is not None
    assert found.mean.value == (3 + 1 + 1 + 1) / 4 * len("An answer.")
    assert found.without_score == {"hh-rlhf-2": "no charges"}
    assert found.notes == {"rewards by": "counts-turns"}


def judge_by_length(messages, seed, index) -> str:
    """Prefers the longer answer; the first one when it is about a refund."""
    text = messages[-1]["content"]
    first, second = text.split("</A-")[0], text.split("</A-")[1]
    better = "A+" if "slow refund" in text or len(first) > len(second) + 200 else "B+"
    return json.dumps({"reasons": "length", "verdict": better})


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch):
    with OpenAIServer(judge_by_length) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
        yield server


def test_win_rate_against_another_output_by_one_judge(tmp_path: Path, judge: OpenAIServer):
    ours = read_outcomes(answered(tmp_path / "tpo.jsonl", "arena-hard", "long " * 200))
    others = read_other_answers(answered(tmp_path / "bon.jsonl", "arena-hard", "short"))
    del others["id", "fedcba98765432100123456789abcdef"]
    found = score("arena-hard", ours, Scoring(judge="openai:judge", against=others))
    assert found.mean is not None
    # Two wins; the judge who always says "A" of refunds contradicts itself, which counts half.
    assert found.mean.value == pytest.approx(2.5 / 3)
    assert (found.notes["win"], found.notes["inconsistent"], found.notes["loss"]) == (2, 1, 0)
    assert found.without_score == {
        "fedcba98765432100123456789abcdef": "the other file has no answer to it"
    }
    assert found.length == 1000
    assert found.notes["characters per answer of the others"] == 5
    assert len(judge.calls) == 6


def test_other_answers_in_the_official_formats(tmp_path: Path):
    alpaca = [{"instruction": "Hoot?", "output": "Hoot.", "generator": "owl"}]
    (tmp_path / "a.json").write_text(json.dumps(alpaca))
    assert read_other_answers(tmp_path / "a.json") == {("prompt", "Hoot?"): "Hoot."}
    messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": {"answer": "!"}}]
    (tmp_path / "m.jsonl").write_text(json.dumps({"uid": "ab", "messages": messages}) + "\n")
    assert read_other_answers(tmp_path / "m.jsonl") == {("id", "ab"): "!"}
    (tmp_path / "x.json").write_text('[{"text": "?"}]')
    with pytest.raises(ConfigurationError, match=r"fields \['text'\]"):
        read_other_answers(tmp_path / "x.json")


@pytest.mark.parametrize("name", ["alpaca-eval", "arena-hard", "xstest"])
def test_a_metric_that_needs_a_judge_says_so(tmp_path: Path, name: str):
    with pytest.raises(ConfigurationError, match="--judge"):
        score(name, read_outcomes(answered(tmp_path / "out.jsonl", name)))


def test_outputs_that_are_none_are_refused(tmp_path: Path):
    file = tmp_path / "out.jsonl"
    file.write_text('{"id": "a", "prompt": "?"}\n')
    with pytest.raises(ConfigurationError, match=r"row 1 of .* give the output file of tpo batch"):
        read_outcomes(file)
    file.write_text('{"id": "a", "response": "x"}\n' * 2)
    with pytest.raises(ConfigurationError, match=r"has the id 'a' twice"):
        read_outcomes(file)
    with pytest.raises(ConfigurationError, match=r"JSONL or JSON, not 'out\.csv'"):
        read_outcomes(tmp_path / "out.csv")


said = st.text(st.characters(exclude_characters="\n", exclude_categories=("Cs",)), max_size=30)


@given(
    st.lists(said.filter(str.strip), min_size=1, max_size=7).filter(lambda turns: len(turns) % 2)
)
def test_transcripts_are_read_turn_by_turn(texts: list[str]):
    names = ["Human", "Assistant"]
    spoken = "".join(f"\n\n{names[n % 2]}: {text}" for n, text in enumerate(texts))
    turns = conversation(f"{spoken}\n\nAssistant: the end")
    assert [turn["content"] for turn in turns] == [text.strip() for text in texts]
    assert [turn["role"] for turn in turns] == ["user", "assistant"] * (len(texts) // 2) + ["user"]
