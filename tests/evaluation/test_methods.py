"""Methods from their names, and how many samples a loop's budget buys."""

import re

import pytest

from tests.conftest import ROOT
from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.finished import Finished, Step
from tpo_graph.evaluation.methods import BestOf, Loop, best_of, equal_n, parse_methods
from tpo_graph.strategies.methods import METHODS, NEUTRAL
from tpo_graph.usage import no_usage


def run(rest: int, requests: int, prompt: int, completion: int, first: int = 5) -> Finished:
    """A run whose critic and updates took `rest` tokens, and its first samples what follows."""
    openings = tuple(map(str, range(first)))
    steps = (Step((1.0,) * first, 1.0, 1.0),)
    sample = {"requests": requests, "prompt_tokens": prompt, "completion_tokens": completion}
    ledger = {
        "sample": {**no_usage(), **sample},
        "update": {**no_usage(), "prompt_tokens": rest},
        "reward_score": {**no_usage(), "prompt_tokens": 10_000},
    }
    return Finished("r", 0, "id", "x", 1.0, steps, openings, ledger)


def test_methods_from_their_names():
    own = str(ROOT / "prompts" / "tpo")
    found = parse_methods(["tpo", "revision", "best-of-n", "best-of-30", f"mine={own}"], own)
    assert found == [
        Loop("tpo", own),
        Loop("revision", "revision"),
        BestOf(None),
        BestOf(30),
        Loop("mine", own),
    ]
    assert parse_methods(["tpo=revision"], own) == [Loop("tpo", "revision")]
    method = Loop("tpo", "own").method(5, 2, "policy")
    assert (method.label, method.width, method.depth, method.prompts) == ("TPO D2-N5", 5, 2, "own")
    assert best_of(33, "policy").label == "best-of-33"


def test_all_methods_and_one_with_a_set_of_ones_own():
    own = str(ROOT / "prompts" / "synthesis")
    found = {m.name: m for m in parse_methods(["all"], "tpo") if isinstance(m, Loop)}
    assert found.keys() == METHODS.keys()
    assert found["rsa"].settings == {**NEUTRAL, "select": "random-subset:3"}
    assert found["tpo"].settings == {}
    controls = [m for m in found.values() if m.method(5, 2, "p").control]
    assert [m.name for m in controls] == ["no-critique", "random-edit", "reversed"]
    assert found["pandora"].method(5, 2, "p").depth == 10
    (mine,) = parse_methods([f"rsa={own}"], "tpo")
    assert mine == Loop("rsa", own, found["rsa"].settings)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ([], "no method to compare"),
        (["dpo"], "unknown method 'dpo': give"),
        (["best-of-0"], "unknown method 'best-of-0'"),
        (["best-of-5=x"], "unknown method"),
        (["a/b=x"], "unknown method 'a/b=x'"),
        (["mine="], "unknown method 'mine='"),
        (["mine=./a=b"], "'./a=b'"),
        (["tpo", "revision", "tpo=revision"], "'tpo' is given twice"),
    ],
)
def test_a_wrong_method_is_one_clear_error(wanted: list[str], said: str):
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        parse_methods(wanted, "tpo")


def test_equal_samples_and_equal_flops():
    assert equal_n("samples", 5, 2) == 15
    # The paper's accounting: D2-N5 is about best-of-33 (Section 6, "9.3 PFLOPs").
    assert equal_n("flops", 5, 2) == 33
    assert equal_n("flops", 1, 1) == 7
    assert equal_n("samples", 20, 5) == 120


def test_equal_tokens_are_those_that_were_measured():
    # One request of five answers: a prompt of 100 once, 40 per answer; 2,100 in all.
    once = run(1800, 1, 100, 200)
    assert equal_n("tokens", 5, 2, [once, once]) == 50  # 100 + 50 * 40 = 2100
    # A request per answer: each brings its prompt along.
    each = run(1400, 5, 500, 200)
    assert equal_n("tokens", 5, 2, [each]) == 15  # 15 * 140 = 2100
    assert equal_n("tokens", 1, 1, [run(0, 1, 900, 10, first=1)]) == 1


@pytest.mark.parametrize("runs", [[], [run(0, 1, 0, 0)]])
def test_no_tokens_no_budget_in_tokens(runs: list[Finished]):
    with pytest.raises(ConfigurationError, match="--budget samples or flops"):
        equal_n("tokens", 5, 2, runs)
