"""The live things a graph works with: models, reward model, prompts, cache.

Values a caller may change per run stand in `TPOContext`; what cannot be written down as a value
stands here, is made once by `create_tpo_graph`, and is given to every node.
"""

import asyncio
from dataclasses import dataclass

from langchain_core.language_models import BaseChatModel

from tpo_graph.cache import Cache
from tpo_graph.context import TPOContext
from tpo_graph.models.load import load_chat_model
from tpo_graph.prompts import PromptSet
from tpo_graph.rewards import RewardModel, as_reward_model


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

    async def policy_for(self, context: TPOContext) -> BaseChatModel:
        """The policy of this run: the context may name another."""
        return await _chat_model(context.policy) if context.policy else self.policy

    async def critic_for(self, context: TPOContext) -> BaseChatModel:
        """The critic of this run; a policy named in the context is its own critic."""
        name = context.critic or (context.policy if self.critic is self.policy else None)
        return await _chat_model(name) if name else self.critic

    async def reward_model_for(self, context: TPOContext) -> RewardModel:
        """The reward model of this run: the context may name another."""
        if context.reward_model is None:
            return self.reward_model
        return await asyncio.to_thread(as_reward_model, context.reward_model)


async def _chat_model(name: str) -> BaseChatModel:
    # Loading imports packages and may read weights: never on the event loop.
    return await asyncio.to_thread(load_chat_model, name)
