"""Reward models: what decides which candidate is better."""

from tpo_graph.rewards.base import RewardModel, checked_scores
from tpo_graph.rewards.function import FunctionReward, RewardFunction
from tpo_graph.rewards.load import as_reward_model, load_reward_model
from tpo_graph.rewards.local import LocalRewardModel

__all__ = [
    "FunctionReward",
    "LocalRewardModel",
    "RewardFunction",
    "RewardModel",
    "as_reward_model",
    "checked_scores",
    "load_reward_model",
]
