"""`EnsembleRewardModel`: several reward models as one, so that no one's faults are exploited.

Members score on scales of their own; each score is first made a z-score by the member's stored
calibration, its mean and standard deviation over responses of the kind that will be scored
(`calibrate`). A response that only one member overrates then gains little: Coste et al.
(2310.02743) find that the worst case, and the mean minus a multiple of the spread, remove most
over-optimisation.
"""

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError, RewardError
from tpo_graph.files.toml import Table, read_toml
from tpo_graph.rewards.base import RewardModel, Score, checked_scores, part_scores
from tpo_graph.rewards.together import together

Combine = Literal["mean", "min", "mean-std"]


@dataclass(frozen=True)
class Calibration:
    """Where a reward model's scores lie."""

    mean: float
    std: float
    """Standard deviation of the population, above 0."""


@dataclass(frozen=True)
class Member:
    """One reward model of an ensemble."""

    reward_model: RewardModel
    calibration: Calibration
    weight: float = 1.0


class _MemberEntry(Table):
    reward_model: str
    mean: float = Field(allow_inf_nan=False)
    std: float = Field(gt=0, allow_inf_nan=False)
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)


class _File(Table):
    """An ensemble in a TOML file."""

    combine: Combine = "mean-std"
    penalty: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    member: list[_MemberEntry] = Field(min_length=1)


def _reasons(names: Sequence[str], reasons: Sequence[str]) -> str:
    """What the members said, each with its name where several spoke."""
    said = [(name, reason) for name, reason in zip(names, reasons, strict=True) if reason]
    if len(said) < 2:
        return "".join(reason for _, reason in said)
    return "\n".join(f"{name}: {reason}" for name, reason in said)


class EnsembleRewardModel:
    """Scores by the members' z-scores together.

    Args:
        members: at least one.
        combine: "mean" (weighted); "min", the worst case, in which weights have no place; or
            "mean-std", the weighted mean minus `penalty` times the weighted standard deviation.
        penalty: lambda of "mean-std".

    Raises:
        ConfigurationError: no members, or numbers that make no sense.
    """

    def __init__(
        self, members: Sequence[Member], combine: Combine = "mean-std", penalty: float = 1.0
    ) -> None:
        self._members = list(members)
        self._combine: Combine = combine
        self._penalty = penalty
        self._check()
        parts = [
            (m.reward_model.name, m.calibration.mean, m.calibration.std, m.weight)
            for m in self._members
        ]
        text = json.dumps([parts, penalty if combine == "mean-std" else None])
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        unnamed = [getattr(m.reward_model, "nameless", None) for m in self._members]
        self.nameless: str | None = next((why for why in unnamed if why is not None), None)
        self.name = f"ensemble:{combine}-of-{len(self._members)}@{digest}"

    @classmethod
    def from_file(cls, path: Path, load: Callable[[str, Path], RewardModel]) -> Self:
        """An ensemble from a TOML file with `combine`, `penalty` and one `[[member]]` each, whose
        reward model is loaded by its name, with the file's folder for relative paths.

        Raises:
            ConfigurationError: the file or a member cannot be read.
        """
        given = read_toml(path, _File)
        members = [
            Member(
                load(entry.reward_model, path.parent),
                Calibration(entry.mean, entry.std),
                entry.weight,
            )
            for entry in given.member
        ]
        return cls(members, given.combine, given.penalty)

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`. Where a member fails, the others are stopped."""
        scored = await together(
            part_scores(member.reward_model, conversation, responses) for member in self._members
        )
        standard = [
            [(score - member.calibration.mean) / member.calibration.std for score in scores]
            for member, scores in zip(self._members, scored, strict=True)
        ]
        names = [member.reward_model.name for member in self._members]
        combined = [self._combined(column) for column in zip(*standard, strict=True)]
        reasons = [
            _reasons(names, [score.reason for score in given])
            for given in zip(*scored, strict=True)
        ]
        return list(map(Score, combined, reasons))

    def _combined(self, scores: Sequence[float]) -> float:
        if self._combine == "min":
            return min(scores)
        weights = [member.weight for member in self._members]
        mean = statistics.fmean(scores, weights)
        if self._combine == "mean":
            return mean
        variance = statistics.fmean([(score - mean) ** 2 for score in scores], weights)
        return mean - self._penalty * math.sqrt(variance)

    def _check(self) -> None:
        if not self._members:
            raise ConfigurationError("an ensemble needs members, and there are none")
        if self._combine not in ("mean", "min", "mean-std"):
            raise ConfigurationError(
                f"combine={self._combine!r} is not one of 'mean', 'min', 'mean-std'"
            )
        for member in self._members:
            numbers = (member.calibration.mean, member.calibration.std, member.weight)
            if not all(map(math.isfinite, numbers)) or min(numbers[1:]) <= 0:
                raise ConfigurationError(
                    f"{member.reward_model.name!r} has mean, std, weight {numbers!r}: std and "
                    "weight must be above 0"
                )
        if self._combine == "min" and len({member.weight for member in self._members}) > 1:
            raise ConfigurationError(
                "weights mean nothing to combine='min': leave them out, or use 'mean'"
            )
        if not (math.isfinite(self._penalty) and self._penalty >= 0):
            raise ConfigurationError(f"penalty={self._penalty!r} must be 0 or more")


async def calibrate(
    reward_model: RewardModel, samples: Sequence[tuple[Sequence[Turn], Sequence[str]]]
) -> Calibration:
    """Mean and standard deviation of a model's scores, to be stored with the ensemble.

    Args:
        reward_model: the model to measure.
        samples: conversations with responses of the kind that will be scored, such as first
            samples of the policy; some hundred responses give two digits.

    Raises:
        RewardError: the model failed, or gave all responses the same score.
    """
    scores = [
        score
        for conversation, responses in samples
        for score in await checked_scores(reward_model, conversation, responses)
    ]
    std = statistics.pstdev(scores) if scores else 0.0
    if std == 0:
        raise RewardError(
            f"{reward_model.name!r} cannot be calibrated: its {len(scores)} scores are all the same"
        )
    return Calibration(statistics.fmean(scores), std)
