"""When to stop: decided from numbers alone, after an iteration is scored and before a call is made.

`select` writes the reason into the state; the graph's only conditional edge reads it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from tpo_graph.candidates import Candidate, IterationSummary
from tpo_graph.context import TPOContext
from tpo_graph.costs import Role, bill, list_price
from tpo_graph.errors import ConfigurationError
from tpo_graph.usage import Ledger, total_tokens

StopReason = Literal[
    "no_usable_update",
    "no_change",
    "target_reward",
    "depth",
    "patience",
    "same_pair",
    "stop_rule",  # that of the setting `stop` (`tpo_graph.strategies`)
    "max_total_tokens",
    "max_seconds",
    "max_cost",
    "person",  # said so when asked (`tpo_graph.nodes.review`)
    "failed",  # a step did, for good (`tpo_graph.nodes.step`)
]


_UNNAMED: Mapping[Role, str] = {"policy": "", "critic": "", "reward_model": ""}

Pair = tuple[Candidate | None, Candidate | None]
"""Chosen and rejected; None before there are any."""


def stop_reason(
    history: Sequence[IterationSummary],
    usage: Ledger,
    context: TPOContext,
    pair: Pair = (None, None),
    pair_before: Pair = (None, None),
    *,
    no_change: bool = False,
    rule: Callable[[Sequence[IterationSummary]], bool] | None = None,
    models: Mapping[Role, str] | None = None,
) -> StopReason | None:
    """Why the run must not go deeper, or None.

    Args:
        history: one row per scored iteration, the newest last; at least one.
        usage: what the run has consumed so far.
        context: depth, target, patience and budgets.
        pair: the best and the worst candidate of all iterations.
        pair_before: the same one iteration earlier.
        no_change: the critic found nothing to change, so no update was asked for.
        rule: one more, from numbers alone.
        models: names of policy and critic, for list prices.
    """
    latest = history[-1]
    if latest["n"] == 0:
        # The next iteration would show the critic the very same pair.
        return "no_change" if no_change else "no_usable_update"
    if context.target_reward is not None and latest["best_so_far"] >= context.target_reward:
        return "target_reward"
    if latest["iteration"] >= context.depth:
        return "depth"
    if context.patience is not None and _idle_iterations(history, context) >= context.patience:
        return "patience"
    if context.stop_on_same_pair and _same(history, pair, pair_before):
        return "same_pair"
    if rule is not None and rule(history):
        return "stop_rule"
    if context.max_total_tokens is not None and (
        _with_one_more(total_tokens(usage), latest["iteration"]) > context.max_total_tokens
    ):
        return "max_total_tokens"
    if context.max_seconds is not None and (
        _with_one_more(_seconds(usage), latest["iteration"]) > context.max_seconds
    ):
        return "max_seconds"
    if context.max_cost is not None and (
        _with_one_more(cost(usage, context, models), latest["iteration"]) > context.max_cost
    ):
        return "max_cost"
    return None


def cost(usage: Ledger, context: TPOContext, models: Mapping[Role, str] | None = None) -> float:
    """What policy and critic cost: at the context's prices, else at list prices (USD)."""
    texts = {name: stage for name, stage in usage.items() if name != "reward_score"}
    return bill(texts, models or _UNNAMED, options=context).cost or 0.0


def need_prices(context: TPOContext, models: Mapping[Role, str]) -> None:
    """Refuse a budget of money where no price is known to hold it against."""
    if context.max_cost is None or context.input_price or context.output_price:
        return
    for role in ("policy", "critic"):
        if list_price(models[role]) is None:
            raise ConfigurationError(
                f"max_cost={context.max_cost!r} needs input_price and output_price, in the same "
                f"currency: no list price is known for the {role} {models[role]!r}."
            )


def _same(history: Sequence[IterationSummary], pair: Pair, before: Pair) -> bool:
    """Whether the critic would see what it has seen, or one text twice."""
    chosen, rejected = pair
    if chosen is None or rejected is None or sum(row["n"] for row in history) == 1:
        return False  # a first sample that is alone is improved without a comparison
    return chosen["response"] == rejected["response"] or pair == before


def _idle_iterations(history: Sequence[IterationSummary], context: TPOContext) -> int:
    """How many of the latest iterations in a row brought no gain of at least `min_gain`."""
    idle = 0
    for before, after in zip(reversed(history[:-1]), reversed(history[1:]), strict=True):
        gain = after["best_so_far"] - before["best_so_far"]
        if gain > 0 and gain >= context.min_gain:
            break
        idle += 1
    return idle


def _with_one_more(used: float, iterations: int) -> float:
    """`used` after one more iteration, which is taken to cost the average of those so far."""
    return used + used / (iterations + 1)


def _seconds(usage: Ledger) -> float:
    return sum(stage["seconds"] for stage in usage.values())
