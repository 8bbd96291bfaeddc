"""The live things a graph works with: models, reward model, prompts, cache.

Values a caller may change per run stand in `TPOContext`; what cannot be written down as a value
stands here, is made once by `create_tpo_graph`, and is given to every node.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from langchain_core.language_models import BaseChatModel

from tpo_graph.cache import Cache
from tpo_graph.context import TPOContext
from tpo_graph.costs import Role
from tpo_graph.errors import ConfigurationError
from tpo_graph.models.load import load_chat_model, model_name
from tpo_graph.prompts import PromptSet
from tpo_graph.rewards import RewardFunction, RewardModel, as_reward_model
from tpo_graph.strategies import Pick, Select, StopRule, Strategy, named

T = TypeVar("T")


@dataclass(frozen=True)
class Handles:
    """What the nodes of one graph share."""

    policy: BaseChatModel
    """M: answers and updates."""
    critic: BaseChatModel
    """M in its second role: writes loss and gradient; the policy unless another is given."""
    reward_model: RewardModel
    """R."""
    prompts: PromptSet
    cache: Cache
    """C."""

    policies: Mapping[str, str | BaseChatModel] = field(default_factory=dict[str, Any])
    """Policies that a context may choose, by name."""
    critics: Mapping[str, str | BaseChatModel] = field(default_factory=dict[str, Any])
    """Critics that a context may choose, by name."""
    reward_models: Mapping[str, str | RewardModel | RewardFunction] = field(
        default_factory=dict[str, Any]
    )
    """Reward models that a context may choose, by name."""

    strategies: Mapping[str, Strategy] = field(default_factory=dict[str, Any])
    """Objects of the caller's own, by name, that a context's `select`, `pick`, `stop` may name."""

    def strategies_for(self, context: TPOContext) -> tuple[Select, Pick, StopRule | None]:
        """What this run shows critic and update, how it picks its answer, and its further stop
        rule.
        """
        own = self.strategies
        stop = None if context.stop is None else named("stop", context.stop, own)
        return named("select", context.select, own), named("pick", context.pick, own), stop

    def check(self, context: TPOContext) -> None:
        """Refuse, before anything is asked, a context that this graph cannot follow.

        Raises:
            ConfigurationError: it names a model or a strategy that is no choice, or criteria that
                no prompt of the set would show.
        """
        check_criteria(context.criteria, self.prompts)
        self.strategies_for(context)
        for kind, choices in _CHOICES.items():
            given: object = getattr(self, choices)
            if not isinstance(given, Mapping):
                raise ConfigurationError(
                    f"{choices}={given!r:.200}: give a mapping, from names to what they stand for"
                )
            if (name := getattr(context, kind)) is not None:
                _choice(cast("Mapping[str, Any]", given), kind, name)

    async def names_for(self, context: TPOContext) -> dict[Role, str]:
        """What the models of this run are called."""
        return {
            "policy": model_name(await self.policy_for(context)),
            "critic": model_name(await self.critic_for(context)),
            "reward_model": (await self.reward_model_for(context)).name,
        }

    async def policy_for(self, context: TPOContext) -> BaseChatModel:
        """The policy of this run: the context may choose another."""
        if context.policy is None:
            return self.policy
        return await _loaded(load_chat_model, self.policies, "policy", context.policy)

    async def critic_for(self, context: TPOContext) -> BaseChatModel:
        """The critic of this run; a policy chosen by the context is its own critic."""
        if context.critic is not None:
            return await _loaded(load_chat_model, self.critics, "critic", context.critic)
        return await self.policy_for(context) if self.critic is self.policy else self.critic

    async def reward_model_for(self, context: TPOContext) -> RewardModel:
        """The reward model of this run: the context may choose another."""
        name = context.reward_model
        if name is None:
            return self.reward_model
        return await _loaded(as_reward_model, self.reward_models, "reward_model", name)


def check_criteria(criteria: str | None, prompts: PromptSet) -> None:
    """Refuse criteria that no prompt of the set has a place for."""
    if criteria and not prompts.uses_criteria:
        raise ConfigurationError(
            f"criteria={criteria!r} would be ignored: no prompt of the set "
            f"{prompts.name!r} has the variable {{criteria}}. Add it, or use another set."
        )


async def _loaded(load: Callable[[Any], T], choices: Mapping[str, Any], kind: str, name: str) -> T:
    choice = _choice(choices, kind, name)
    # Loading imports packages and may read weights: never on the event loop.
    return await asyncio.to_thread(load, choice)


def _choice(choices: Mapping[str, Any], kind: str, name: str) -> Any:
    """The choice of that name, and nothing else: whoever sends a context could otherwise have this
    process read files, and send its keys to any address."""
    if name not in choices:
        known = ", ".join(map(repr, sorted(choices))) or "none"
        raise ConfigurationError(
            f"{kind}={name!r} in the context is not a choice of this graph; there are: {known}. "
            f"The graph's author names them: create_tpo_graph({_CHOICES[kind]}={{NAME: ...}}), or "
            f"the table [{_CHOICES[kind]}] of the server's tpo.toml."
        )
    return choices[name]


_CHOICES = {"policy": "policies", "critic": "critics", "reward_model": "reward_models"}
