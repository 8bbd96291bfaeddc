"""What a result says of itself: numbers, one line, a notebook's view, a data frame."""

import builtins
import copy
import pickle
from dataclasses import replace
from typing import Any

import pytest

from tpo_graph import Score, TPOResult, optimize
from tpo_graph.costs import list_price
from tpo_graph.errors import ConfigurationError
from tpo_graph.testing import ScriptedChatModel, prefer_longer


@pytest.fixture(scope="module")
def result() -> TPOResult:
    rewrites = [f"<b>answer</b> {'longer ' * n}" for n in (30, 40)]
    replies = ["<b>answer</b>\n" + "long " * 20, "short", "loss", "gradient"]
    replies += [f"<improved_answer>{text}</improved_answer>" for text in rewrites]
    model = ScriptedChatModel(replies=replies)
    return optimize("Hi.", model=model, reward_model=prefer_longer, depth=1, width=2)


def test_gain_and_tokens_are_those_of_the_candidates_and_the_ledger(result: TPOResult):
    firsts = [c["reward"] for c in result.candidates if c["iteration"] == 0]
    assert result.first_best == max(firsts)
    assert result.gain == result.reward - max(firsts) > 0
    assert result.tokens == sum(row["tokens"] for row in result.history) > 0


def test_its_repr_is_one_short_line(result: TPOResult):
    assert len(repr(result)) < 250
    assert "\n" not in repr(result)
    assert f"{len(result.candidates)} responses" in repr(result)


def test_a_notebook_shows_texts_never_markup_of_a_model(result: TPOResult):
    html = result._repr_html_()
    assert "<b>answer" not in html
    assert "&lt;b&gt;answer" in html
    assert "<summary>Iteration 0</summary>" in html
    assert f"<td>{result.history[-1]['best_so_far']:.3f}</td>" in html


def sent(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own


def test_it_and_its_candidates_travel_to_other_processes_with_their_reasons(result: TPOResult):
    def reward(query: str, response: str) -> Score:
        return Score(len(response), "longer is better")

    reasoned = optimize("Hi.", model=ScriptedChatModel(), reward_model=reward, depth=1, width=2)
    for one in (result, reasoned):
        assert sent(one) == copy.deepcopy(one) == one
    candidate = sent(reasoned.candidates[-1])
    assert candidate["reason"] == "longer is better"
    score = copy.deepcopy(sent(reward("", "four")))
    assert (score, score.reason) == (4.0, "longer is better")


def test_its_frame_has_a_row_for_each_response(result: TPOResult):
    frame = result.to_frame()
    assert list(frame["response"]) == [c["response"] for c in result.candidates]
    assert frame["reward"].max() == result.reward


def test_without_pandas_the_extra_is_named(result: TPOResult, monkeypatch: pytest.MonkeyPatch):
    found = builtins.__import__

    def missing(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
        return found(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigurationError, match=r"to_frame.*'tpo-graph\[data\]'"):
        result.to_frame()


def test_it_knows_its_query_and_its_cost_at_the_run_s_prices(result: TPOResult):
    assert result.query == "Hi."
    assert result.cost is None  # a fake has no list price
    model = ScriptedChatModel()
    priced = optimize(
        "Hi.", model=model, reward_model=prefer_longer, input_price=2.0, output_price=10.0
    )
    prompt = sum(usage["prompt_tokens"] for usage in priced.usage.values())
    completion = sum(usage["completion_tokens"] for usage in priced.usage.values())
    assert priced.cost == pytest.approx((2 * prompt + 10 * completion) / 1e6)
    listed = replace(priced, models=dict.fromkeys(priced.models, "openai:gpt-4o-mini"))
    listed = replace(listed, settings=None)
    price = list_price("openai:gpt-4o-mini")
    assert price is not None
    assert price.input_price is not None
    assert price.output_price is not None
    assert price.output_price > price.input_price > 0
    at_list = price.input_price * prompt + price.output_price * completion
    assert listed.cost == pytest.approx(at_list / 1e6)
