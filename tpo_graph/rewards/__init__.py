"""Reward models: what decides which candidate is better.

`VLLMRewardModel` and `SGLangRewardModel` stand in `rewards.vllm` and `rewards.sglang`: they import
an HTTP client, which takes longer than all of this.
"""

from tpo_graph.local.reward_model import LocalRewardModel
from tpo_graph.rewards.base import RewardModel, Score, checked_scores, reuses_scores, score_each
from tpo_graph.rewards.ensemble import Calibration, EnsembleRewardModel, Member, calibrate
from tpo_graph.rewards.function import FunctionReward, RewardFunction
from tpo_graph.rewards.judge import Criterion, JudgeRewardModel, Scale
from tpo_graph.rewards.length_curve import LengthCurve, fit_length_curve, stored_scores
from tpo_graph.rewards.length_penalty import LengthPenalty
from tpo_graph.rewards.load import as_reward_model, load_reward_model
from tpo_graph.rewards.pairwise import PairwiseJudge

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
