"""What runs cost: money by a price table, and FLOPs by the paper's accounting or by real tokens.

Token counts come from ledgers (`usage.py`), prices and parameter counts from a TOML file the user
gives, else list prices from genai-prices; the batch, the comparison and the report show the result.
Nothing here decides anything: `stopping.cost`, which a run's budget is held against, is the same
arithmetic at the same prices.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from tpo_graph.context import RunOptions
from tpo_graph.files.toml import Table, read_toml
from tpo_graph.usage import Ledger, Usage, add_usage, no_usage

Role = Literal["policy", "critic", "reward_model"]
_ROLES: Mapping[str, Role] = {
    "sample": "policy",
    "select": "critic",  # the comparisons of a pick
    "loss": "critic",
    "gradient": "critic",
    "update": "policy",
    "reward_score": "reward_model",
}

PAPER_PARAMETERS = 80 * (2 * 8192**2 + 2 * 8192 * 1024 + 3 * 8192 * 28_672) + 8192 * 128_256
"""P of the paper: the linear layers of Llama 3.1 70B and its output head, 69.50e9."""


class ModelCosts(Table):
    """One model's entry in the table. What is left out is not known, which is not the same as 0."""

    input_price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Of a million prompt tokens."""
    cached_price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Of a million prompt tokens from the provider's cache; None: `input_price`."""
    output_price: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Of a million generated tokens; None for a model that generates none."""
    parameters: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """How many parameters each token passes through (of a mixture: those active)."""

    @model_validator(mode="after")
    def _has_an_input_price(self) -> Self:
        prices = (self.cached_price, self.output_price)
        if self.input_price is None and prices != (None, None):
            raise ValueError("it needs input_price, in the same currency")
        return self

    def cost(self, usage: Usage) -> float | None:
        """What the tokens cost; None when there is no price for some of them."""
        if self.input_price is None or (usage["completion_tokens"] and self.output_price is None):
            return None
        return price(usage, self.input_price, self.cached_price, self.output_price or 0.0)


class CostTable(Table):
    """Prices and sizes of models, by the names that runs are stored with."""

    currency: str = ""
    models: dict[str, ModelCosts] = Field(default_factory=dict)

    def of(self, model: str) -> ModelCosts | None:
        """The entry of a model. A reward model's is found without the digest after its "@" too."""
        return self.models.get(model) or self.models.get(model.rpartition("@")[0])


def read_costs(path: Path) -> CostTable:
    """The table in a TOML file::

        currency = "USD"

        [models."openai:gpt-4o-mini"]
        input_price = 0.25    # per million tokens
        cached_price = 0.025
        output_price = 2.0

        [models."local:Skywork/Skywork-Reward-V2-Qwen3-0.6B"]
        parameters = 0.6e9    # for FLOPs

    Raises:
        ConfigurationError: it cannot be read, or says something else.
    """
    return read_toml(path, CostTable, "price table")


LIST_CURRENCY = "USD"
_PROVIDERS = {
    "google_genai": "google",
    "google_vertexai": "google",
    "mistralai": "mistral",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "xai": "x-ai",
}
"""LangChain's names of providers whose name in genai-prices is another."""


@lru_cache(maxsize=256)
def list_price(model: str) -> ModelCosts | None:
    """The provider's list price of a model, in US dollars; None for one without.

    Prices are those that genai-prices was released with (nothing is downloaded), of short prompts
    where long ones cost more. A model that another server answers for under the name of a
    provider's has that provider's price.

    Args:
        model: "PROVIDER:NAME" as runs are stored with, "judge:" before it or "@…" behind.
    """
    provider, _, name = model.removeprefix("judge:").partition("@")[0].partition(":")
    if not name or provider == "local":
        return None
    # A third of a second that a run without prices need not wait for.
    from genai_prices.data_snapshot import get_snapshot
    from genai_prices.types import TieredPrices

    try:
        # "gpt-4o?rubric=FILE": a judge's options.
        wanted = name.partition("?")[0], None, _PROVIDERS.get(provider, provider), None
        _, found = get_snapshot().find_provider_model(*wanted)
    except LookupError:
        return None
    prices = found.get_prices(datetime.now(UTC))
    each = (prices.input_mtok, prices.cache_read_mtok, prices.output_mtok)
    base = [p.base if isinstance(p, TieredPrices) else p for p in each]
    given, cached, written = (None if p is None else float(p) for p in base)
    if given is None:
        return None
    return ModelCosts(input_price=given, cached_price=cached, output_price=written)


def price(
    usage: Usage, input_price: float, cached_price: float | None, output_price: float
) -> float:
    """What a usage's tokens cost, at prices of a million."""
    cached = input_price if cached_price is None else cached_price
    return (
        (usage["prompt_tokens"] - usage["cached_tokens"]) * input_price
        + usage["cached_tokens"] * cached
        + usage["completion_tokens"] * output_price
    ) / 1e6


@dataclass(frozen=True)
class BillRow:
    """What one stage consumed of one model."""

    stage: str
    model: str
    usage: Usage
    cost: float | None
    """None where the table has no price."""
    flops: float | None
    """Of real tokens; None where the table has no parameter count."""


@dataclass(frozen=True)
class Bill:
    """A ledger with its models, prices and FLOPs."""

    rows: list[BillRow] = field(default_factory=list[BillRow])
    currency: str = ""
    listed: list[str] = field(default_factory=list[str])
    """Models whose list price it was."""

    @property
    def cost(self) -> float | None:
        """Of all rows whose price is known; None when that is none of them."""
        known = [row.cost for row in self.rows if row.cost is not None]
        return sum(known) if known else None

    @property
    def flops(self) -> float | None:
        """Of all rows whose parameter count is known; None when that is none of them."""
        known = [row.flops for row in self.rows if row.flops is not None]
        return sum(known) if known else None

    @property
    def unpriced(self) -> list[str]:
        """Models that were asked and that `cost` leaves out."""
        rows = [row for row in self.rows if row.cost is None and row.usage["requests"]]
        return sorted({row.model for row in rows})

    @property
    def unmeasured(self) -> list[str]:
        """Models that were asked and that `flops` leaves out."""
        rows = [row for row in self.rows if row.flops is None and row.usage["requests"]]
        return sorted({row.model for row in rows})

    @property
    def by_model(self) -> dict[str, Usage]:
        """All that each model consumed."""
        found: dict[str, Usage] = {}
        for row in self.rows:
            found[row.model] = add_usage(found.get(row.model, no_usage()), row.usage)
        return found

    @property
    def reward_tokens(self) -> int:
        """Tokens that the reward model read and, if it is a judge, wrote; 0 if it tells none."""
        rows = [row.usage for row in self.rows if row.stage == "reward_score"]
        return sum(usage["prompt_tokens"] + usage["completion_tokens"] for usage in rows)


def bill(
    ledger: Ledger,
    models: Mapping[Role, str],
    table: CostTable | None = None,
    options: RunOptions | None = None,
) -> Bill:
    """Prices and FLOPs of a ledger.

    Args:
        ledger: of one run, or of many with the same models (`usage.add_ledgers`).
        models: the names of policy, critic and reward model, as a stored run has them.
        table: the user's table.
        options: of the runs: their prices are those of policy and critic where the table has none.

    A model without a price in either has its list price, where all prices are in US dollars.
    """
    table = table or CostTable()
    own = options is not None and _priced(options)
    dollars = table.currency == LIST_CURRENCY or not (table.models or own)
    listed: list[str] = []
    rows: list[BillRow] = []
    for stage, usage in ledger.items():
        role = _ROLES[stage]
        entry = table.of(models[role]) or ModelCosts()
        cost = entry.cost(usage)
        if cost is None and role != "reward_model" and options and own:
            cost = price(usage, options.input_price, options.cached_price, options.output_price)
        elif cost is None and dollars and (known := list_price(models[role])) is not None:
            cost = known.cost(usage)
            listed.append(models[role])
        flops = None if entry.parameters is None else token_flops(usage, entry.parameters)
        rows.append(BillRow(stage, models[role], usage, cost, flops))
    currency = LIST_CURRENCY if listed else table.currency
    return Bill(rows, currency, sorted(set(listed)))


def _priced(options: RunOptions) -> bool:
    return bool(options.input_price or options.output_price)


def ledger_table(bill: Bill) -> list[list[str]]:
    """A bill as rows of text for a terminal or a page: the titles, a row per stage, the total."""
    table = [[*_TITLES, f"cost {bill.currency}".rstrip(), "PFLOPs"]]
    total = no_usage()
    for row in bill.rows:
        total = add_usage(total, row.usage)
        table.append([row.stage, row.model, *_numbers(row.usage, row.cost, row.flops)])
    table.append(["total", "", *_numbers(total, bill.cost, bill.flops)])
    return table


_TITLES = ("stage", "model", "requests", "prompt", "cached", "completion", "seconds")


def _numbers(usage: Usage, cost: float | None, flops: float | None) -> list[str]:
    return [
        *(f"{usage[name]:,}" for name in ("requests", "prompt_tokens", "cached_tokens")),
        f"{usage['completion_tokens']:,}",
        f"{usage['seconds']:,.1f}",
        "-" if cost is None else f"{cost:,.4f}",
        "-" if flops is None else f"{flops / 1e15:,.3f}",
    ]


def forward_flops(tokens: float, parameters: float = PAPER_PARAMETERS) -> float:
    """f(L) = 2 P L: one forward pass over L tokens (paper, appendix on compute)."""
    return 2.0 * parameters * tokens


def token_flops(usage: Usage, parameters: float) -> float:
    """FLOPs of the tokens that were really computed: prompts but for what was cached, and replies.

    Attention, which grows with the length, is left out, as in the paper.
    """
    computed = usage["prompt_tokens"] - usage["cached_tokens"] + usage["completion_tokens"]
    return forward_flops(computed, parameters)


def paper_flops(
    width: int, depth: int, parameters: float = PAPER_PARAMETERS, *, critics: int = 2
) -> float:
    """FLOPs of one query by the paper's accounting: N f(2048) + D (1 + 1 + N) f(4096).

    Every call counts as of full length, prompt included, and the reward model does not count.
    D2-N5 is 9.394e15 (the paper prints 9.3). D=0 is best-of-N. Methods without a critic make fewer
    than those two `critics` calls in an iteration.
    """
    samples = width * forward_flops(2048, parameters)
    return samples + depth * (critics + width) * forward_flops(4096, parameters)
