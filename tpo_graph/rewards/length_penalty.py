"""`LengthPenalty`: another reward model, less what it gives for length.

Reward models tend to favour long answers, and a run that optimises against one finds that out. What
length is worth is taken off: so much per character, or what a curve fitted on scored responses
says (`length_curve.py`).
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from pydantic import Field

from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError
from tpo_graph.files.toml import Table, read_toml
from tpo_graph.rewards.base import RewardModel, Score, part_scores
from tpo_graph.rewards.length_curve import LengthCurve


class _Curve(Table):
    lengths: list[float]
    rewards: list[float] = Field(min_length=2)


class _File(Table):
    """A length penalty in a TOML file."""

    reward_model: str
    coefficient: float | None = Field(default=None, allow_inf_nan=False)
    curve: _Curve | None = None


class LengthPenalty:
    """Scores by another reward model, and takes off what length is worth.

    Args:
        reward_model: the other one.
        penalty: reward to take off per character, or the curve to take off. With a curve rewards
            keep their mean; with a number they fall by what a usual length costs, so a
            `target_reward` has to fall too.

    Raises:
        ConfigurationError: the number is not finite.
    """

    def __init__(self, reward_model: RewardModel, penalty: float | LengthCurve) -> None:
        self._reward_model = reward_model
        self._penalty = penalty
        if isinstance(penalty, LengthCurve):
            described: object = [penalty.lengths, penalty.rewards]
            self._worth: Callable[[float], float] = penalty.at
        else:
            if not math.isfinite(penalty):
                raise ConfigurationError(f"a penalty of {penalty!r} per character is no number")
            described = penalty
            self._worth = lambda length: penalty * length
        digest = hashlib.sha256(json.dumps(described).encode()).hexdigest()[:12]
        self.nameless: str | None = getattr(reward_model, "nameless", None)
        self.name = f"length-penalty@{digest}:{reward_model.name}"

    @classmethod
    def from_file(cls, path: Path, load: Callable[[str, Path], RewardModel]) -> Self:
        """From a TOML file with `reward_model`, which is loaded by its name, with the file's folder
        for relative paths, and `coefficient` or a `[curve]`.

        Raises:
            ConfigurationError: the file or its reward model cannot be read.
        """
        given = read_toml(path, _File)
        if given.curve is None and given.coefficient is not None:
            penalty = given.coefficient
        elif given.curve is not None and given.coefficient is None:
            penalty = LengthCurve(tuple(given.curve.lengths), tuple(given.curve.rewards))
        else:
            raise ConfigurationError(f"{str(path)!r} needs a coefficient or a [curve], one of both")
        return cls(load(given.reward_model, path.parent), penalty)

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`."""
        scores = await part_scores(self._reward_model, conversation, responses)
        return [
            Score(score - self._worth(len(response)), score.reason)
            for score, response in zip(scores, responses, strict=True)
        ]
