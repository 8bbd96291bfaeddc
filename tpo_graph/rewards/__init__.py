"""Reward models: what decides which candidate is better.

Each is loaded when it is first used: a judge needs LangChain's models, which take longer to import
than all that a command does before it asks one. `VLLMRewardModel` and `SGLangRewardModel` stand in
`rewards.vllm` and `rewards.sglang`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tpo_graph.local.reward_model import LocalRewardModel
    from tpo_graph.rewards.base import RewardModel, Score, checked_scores, reuses_scores, score_each
    from tpo_graph.rewards.ensemble import Calibration, EnsembleRewardModel, Member, calibrate
    from tpo_graph.rewards.function import FunctionReward, RewardFunction
    from tpo_graph.rewards.judge import Criterion, JudgeRewardModel, Scale
    from tpo_graph.rewards.length_curve import LengthCurve, fit_length_curve, stored_scores
    from tpo_graph.rewards.length_penalty import LengthPenalty
    from tpo_graph.rewards.load import as_reward_model, load_reward_model
    from tpo_graph.rewards.pairwise import PairwiseJudge

_HOMES = {
    "Calibration": "rewards.ensemble",
    "Criterion": "rewards.judge",
    "EnsembleRewardModel": "rewards.ensemble",
    "FunctionReward": "rewards.function",
    "JudgeRewardModel": "rewards.judge",
    "LengthCurve": "rewards.length_curve",
    "LengthPenalty": "rewards.length_penalty",
    "LocalRewardModel": "local.reward_model",
    "Member": "rewards.ensemble",
    "PairwiseJudge": "rewards.pairwise",
    "RewardFunction": "rewards.function",
    "RewardModel": "rewards.base",
    "Scale": "rewards.judge",
    "Score": "rewards.base",
    "as_reward_model": "rewards.load",
    "calibrate": "rewards.ensemble",
    "checked_scores": "rewards.base",
    "fit_length_curve": "rewards.length_curve",
    "load_reward_model": "rewards.load",
    "reuses_scores": "rewards.base",
    "score_each": "rewards.base",
    "stored_scores": "rewards.length_curve",
}

__all__ = [
    "Calibration",
    "Criterion",
    "EnsembleRewardModel",
    "FunctionReward",
    "JudgeRewardModel",
    "LengthCurve",
    "LengthPenalty",
    "LocalRewardModel",
    "Member",
    "PairwiseJudge",
    "RewardFunction",
    "RewardModel",
    "Scale",
    "Score",
    "as_reward_model",
    "calibrate",
    "checked_scores",
    "fit_length_curve",
    "load_reward_model",
    "reuses_scores",
    "score_each",
    "stored_scores",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"tpo_graph.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
