"""Stop rules, through runs of scripted models whose rewards are given."""

from typing import Any

import pytest

from tpo_graph import TPOContext, create_tpo_graph
from tpo_graph.candidates import summarize
from tpo_graph.costs import list_price
from tpo_graph.errors import ConfigurationError
from tpo_graph.stopping import cost, need_prices, stop_reason
from tpo_graph.testing import ScriptedChatModel
from tpo_graph.usage import no_usage


def run(rewards: list[float], width: int = 1, **context: Any) -> dict[str, Any]:
    """A run whose i-th sample gets the i-th reward."""
    texts = iter(f"r{i}" for i in range(10_000))

    def play(messages: Any, index: int) -> str:
        prompt = messages[-1].text
        if "</improved_answer>" in prompt:
            return f"<improved_answer>{next(texts)}</improved_answer>"
        asked = "".join(message.text for message in messages)
        return "critique" if "<chosen_answer>" in asked else next(texts)

    def reward(query: str, response: str) -> float:
        return rewards[int(response[1:])]

    graph = create_tpo_graph(ScriptedChatModel(replies=play), reward)
    return graph.invoke({"messages": [("user", "q")]}, context={"width": width, **context})


@pytest.mark.parametrize(
    ("rewards", "context", "reason", "iterations"),
    [
        ([0, 1, 2], {"depth": 2}, "depth", 3),
        ([0, 5, 9], {"depth": 2, "target_reward": 5}, "target_reward", 2),
        ([7, 0, 0], {"depth": 2, "target_reward": 5}, "target_reward", 1),
        ([3, 2, 1, 0, 0], {"depth": 4, "patience": 2}, "patience", 3),
        ([3, 2, 4, 0, 0, 0], {"depth": 5, "patience": 2}, "patience", 5),
        ([0, 1, 1.5, 9], {"depth": 3, "patience": 1, "min_gain": 0.6}, "patience", 3),
        ([0, 0.6, 1.2, 1.8], {"depth": 3, "patience": 1, "min_gain": 0.6}, "depth", 4),
        ([0, 3, 1, 9], {"depth": 3, "stop_on_same_pair": True}, "same_pair", 3),
        ([0, 3, -1, 4], {"depth": 3, "stop_on_same_pair": True}, "depth", 4),
    ],
)
def test_a_run_stops_for_the_first_rule_that_holds(
    rewards: list[float], context: dict[str, Any], reason: str, iterations: int
):
    out = run(rewards, **context)
    assert out["stop_reason"] == reason
    assert len(out["history"]) == iterations
    assert out["chosen"]["reward"] == max(rewards[:iterations])


def test_a_token_budget_is_never_passed_by_more_than_the_estimate():
    unbounded = run([0.0] * 80, depth=30, width=2)
    spent = [row["tokens"] for row in unbounded["history"]]
    budget = sum(spent[:5])
    out = run([0.0] * 80, depth=30, width=2, max_total_tokens=budget)
    assert out["stop_reason"] == "max_total_tokens"
    assert sum(row["tokens"] for row in out["history"]) <= budget


def test_a_budget_smaller_than_the_first_samples_stops_after_them():
    out = run([0, 1], depth=1, max_total_tokens=1)
    assert out["stop_reason"] == "max_total_tokens"
    assert len(out["history"]) == 1


def test_samples_that_are_all_alike_are_no_pair():
    out = run([1.0, 1.0], width=2, depth=3, stop_on_same_pair=True)
    assert (out["stop_reason"], len(out["history"])) == ("same_pair", 1)


def test_a_cost_budget_is_never_passed_by_more_than_the_estimate():
    prices = {"input_price": 2.0, "cached_price": 0.5, "output_price": 10.0}
    unbounded = run([0.0] * 80, depth=30, width=2, max_cost=1e9, **prices)
    context = TPOContext.model_validate({**prices, "max_cost": 1.0})
    whole = cost(unbounded["usage"], context)
    used = [unbounded["usage"][name] for name in ("sample", "loss", "gradient", "update")]
    prompt = sum(stage["prompt_tokens"] for stage in used)
    completion = sum(stage["completion_tokens"] for stage in used)
    assert whole == pytest.approx((2 * prompt + 10 * completion) / 1e6)
    out = run([0.0] * 80, depth=30, width=2, max_cost=whole / 6, **prices)
    assert out["stop_reason"] == "max_cost"
    assert whole / 9 < cost(out["usage"], context) <= 1.05 * whole / 6


def test_cached_tokens_have_their_own_price():
    context = TPOContext(input_price=2.0, cached_price=0.5, output_price=10.0)
    usage = no_usage() | {"prompt_tokens": 1000, "cached_tokens": 600, "completion_tokens": 100}
    assert cost({"update": usage}, context) == pytest.approx((400 * 2 + 600 * 0.5 + 1000) / 1e6)


def test_a_cost_budget_needs_prices_or_a_model_on_the_list():
    with pytest.raises(ConfigurationError, match=r"input_price.*policy 'ScriptedChatModel'"):
        run([0, 1], depth=1, max_cost=1.0)
    names = {"policy": "openai:gpt-4o", "critic": "openai:gpt-4o"}
    need_prices(TPOContext(max_cost=1.0), names)
    usage = {"sample": no_usage() | {"prompt_tokens": 400_000, "completion_tokens": 400_000}}
    listed = list_price("openai:gpt-4o")
    assert listed is not None
    spent = cost(usage, TPOContext(), {**names, "reward_model": ""})
    assert spent == listed.cost(usage["sample"])
    history = [summarize(0, [], 1.0, 0) | {"n": 2}]
    for budget, reason in ((spent, "max_cost"), (3 * spent, None)):
        context = TPOContext(max_cost=budget)
        models = {**names, "reward_model": ""}
        assert stop_reason(history, usage, context, models=models) == reason


def test_a_time_budget_stops_the_run():
    out = run([0.0] * 80, depth=30, max_seconds=1e-9)
    assert out["stop_reason"] == "max_seconds"
