"""Money and FLOPs of a ledger, against the paper's own figures and arithmetic by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpo_graph import TPOContext, optimize
from tpo_graph.costs import (
    PAPER_PARAMETERS,
    CostTable,
    ModelCosts,
    bill,
    forward_flops,
    ledger_table,
    list_price,
    paper_flops,
    read_costs,
)
from tpo_graph.errors import ConfigurationError
from tpo_graph.stopping import cost
from tpo_graph.testing import ScriptedChatModel, prefer_longer
from tpo_graph.usage import Usage, add_ledgers, no_usage

MODELS = {"policy": "openai:big", "critic": "openai:small", "reward_model": "judge:openai:j@1a2b"}
LEDGER = {
    "sample": Usage(**{**no_usage(), "requests": 1, "prompt_tokens": 100, "completion_tokens": 50}),
    "reward_score": Usage(**{**no_usage(), "requests": 5, "prompt_tokens": 900}),
    "loss": Usage(
        **{
            **no_usage(),
            "requests": 1,
            "prompt_tokens": 300,
            "cached_tokens": 200,
            "completion_tokens": 40,
        }
    ),
}
TABLE = """
currency = "EUR"
[models."openai:big"]
input_price = 2.0
output_price = 10.0
parameters = 70e9
[models."openai:small"]
input_price = 1.0
cached_price = 0.1
output_price = 4.0
[models."judge:openai:j"]
input_price = 0.5
"""


class TestFlops:
    def test_the_paper_s_figures_come_out(self):
        assert round(PAPER_PARAMETERS / 1e9, 2) == 69.50
        assert round(forward_flops(2048) / 1e15, 5) == 0.28468
        assert round(paper_flops(width=5, depth=2) / 1e15, 3) == 9.394

    @given(st.integers(1, 100), st.integers(0, 50))
    def test_any_width_and_depth_cost_what_their_calls_cost(self, width, depth):
        calls = [2048] * width
        for _ in range(depth):
            calls += [4096, 4096, *[4096] * width]
        expected = sum(forward_flops(tokens, 1e9) for tokens in calls)
        assert paper_flops(width, depth, 1e9) == pytest.approx(expected)

    def test_real_tokens_count_without_what_the_server_had_cached(self):
        table = CostTable(models={"openai:small": ModelCosts(parameters=1e9)})
        found = bill(LEDGER, MODELS, table)
        assert found.flops == 2e9 * (300 - 200 + 40)
        assert found.unmeasured == ["judge:openai:j@1a2b", "openai:big"]


class TestMoney:
    def test_every_stage_has_its_model_and_its_price(self, tmp_path):
        file = tmp_path / "prices.toml"
        file.write_text(TABLE)
        found = bill(LEDGER, MODELS, read_costs(file))
        priced = {row.stage: (row.model, row.cost) for row in found.rows}
        assert priced == {
            "sample": ("openai:big", pytest.approx((100 * 2 + 50 * 10) / 1e6)),
            "reward_score": ("judge:openai:j@1a2b", pytest.approx(900 * 0.5 / 1e6)),
            "loss": ("openai:small", pytest.approx((100 * 1 + 200 * 0.1 + 40 * 4) / 1e6)),
        }
        assert found.cost == pytest.approx((700 + 450 + 280) / 1e6)
        assert (found.unpriced, found.currency, found.reward_tokens) == ([], "EUR", 900)

    def test_a_model_without_a_price_is_named_and_not_taken_to_be_free(self):
        found = bill(LEDGER, MODELS, CostTable(models={"openai:big": ModelCosts(input_price=1)}))
        assert found.cost is None  # its replies have no price either
        assert found.unpriced == ["judge:openai:j@1a2b", "openai:big", "openai:small"]
        assert bill({}, MODELS).cost is None

    def test_the_runs_own_prices_stand_in_for_policy_and_critic(self):
        options = TPOContext(input_price=2.0, cached_price=0.5, output_price=10.0)
        found = bill(LEDGER, MODELS, None, options)
        assert found.cost == pytest.approx(cost(LEDGER, options))
        assert found.unpriced == ["judge:openai:j@1a2b"]

    def test_list_prices_stand_in_where_all_prices_are_in_dollars(self):
        models = {**MODELS, "policy": "openai:gpt-4o", "reward_model": "judge:openai:gpt-4o@1a2b"}
        known = list_price("openai:gpt-4o")
        assert known is not None
        assert list_price("judge:openai:gpt-4o?rubric=kind.toml@1a2b") == known
        found = bill(LEDGER, models)
        costs = {row.stage: row.cost for row in found.rows}
        assert costs == {
            "sample": known.cost(LEDGER["sample"]),
            "reward_score": known.cost(LEDGER["reward_score"]),
            "loss": None,
        }
        assert (found.currency, found.unpriced) == ("USD", ["openai:small"])
        euros = CostTable(currency="EUR", models={"openai:small": ModelCosts(input_price=1)})
        assert bill(LEDGER, models, euros).cost is None
        own = bill(LEDGER, models, None, TPOContext(input_price=2.0))
        assert own.unpriced == ["judge:openai:gpt-4o@1a2b"]

    @pytest.mark.parametrize("name", ["local:gpt-4o", "gpt-4o", "openai:nobody-s", "nobody:gpt-4o"])
    def test_what_is_on_no_list_has_no_price(self, name):
        assert list_price(name) is None

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("models = 3", "models"),
            ("[models.m]\nprice = 1", "price"),
            ("[models.m]\noutput_price = 1", "needs input_price"),
            ("[models.m]\ninput_price = -1", "-1"),
            ("[models.m", "cannot be read"),
            (None, "cannot be read"),
        ],
    )
    def test_a_table_that_says_something_else_is_one_clear_error(self, tmp_path, text, said):
        file = tmp_path / "prices.toml"
        if text is not None:
            file.write_text(text)
        with pytest.raises(ConfigurationError, match=said) as raised:
            read_costs(file)
        assert str(file) in str(raised.value)


def test_ledgers_of_many_runs_add_up_and_are_shown_with_their_total():
    run = {"model": ScriptedChatModel(), "reward_model": prefer_longer, "depth": 1}
    results = [optimize("Say hello.", **run) for _ in range(3)]
    ledger = add_ledgers(result.usage for result in results)
    assert ledger["update"]["requests"] == 3
    total = sum(stage["prompt_tokens"] for result in results for stage in result.usage.values())
    titles, *rows = ledger_table(bill(ledger, MODELS))
    assert [row[0] for row in rows] == [
        "sample",
        "reward_score",
        "loss",
        "gradient",
        "update",
        "total",
    ]
    assert {len(row) for row in rows} == {len(titles)}
    assert rows[-1][titles.index("prompt")] == f"{total:,}"
    assert rows[-1][titles.index("cost")] == "-"
    assert bill(ledger, MODELS).by_model["openai:small"]["requests"] == 6
