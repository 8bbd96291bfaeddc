"""What a response's length alone tells about its reward: a curve, fitted on scored responses.

They come from stored runs (`tpo runs export`); the curve goes into the file of a `LengthPenalty`.
"""

import json
import math
import statistics
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tpo_graph.errors import ConfigurationError

Scored = Sequence[tuple[str, float]]
"""Responses to one conversation with their rewards, all of one reward model."""

_KNOTS = 7
_SPAN = 0.5  # share of the responses that a point of the curve looks at
_FEWEST = 30
_ROUNDS = 20


@dataclass(frozen=True)
class LengthCurve:
    """Length in characters -> expected reward, as a difference from the mean.

    Straight between its points; beyond them it goes on as steeply as between the last two, so that
    a response longer than any that was seen does not escape.
    """

    lengths: tuple[float, ...]
    """Rising, at least two."""
    rewards: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.lengths, self.lengths[1:], strict=False))
        finite = all(map(math.isfinite, (*self.lengths, *self.rewards)))
        if not (finite and rising and len(self.lengths) == len(self.rewards) > 1):
            raise ConfigurationError(
                "a length curve needs two or more rising lengths and a finite reward for each, not "
                f"lengths={self.lengths!r} and rewards={self.rewards!r}"
            )

    def at(self, length: float) -> float:
        """The expected difference from the mean reward at this length."""
        right = min(max(bisect_left(self.lengths, length), 1), len(self.lengths) - 1)
        (x0, x1), (y0, y1) = (
            self.lengths[right - 1 : right + 1],
            self.rewards[right - 1 : right + 1],
        )
        return y0 + (y1 - y0) * (length - x0) / (x1 - x0)

    @property
    def toml(self) -> str:
        """The `[curve]` of a length penalty's file."""
        lengths = ", ".join(f"{length:g}" for length in self.lengths)
        rewards = ", ".join(f"{reward:.6g}" for reward in self.rewards)
        return f"[curve]\nlengths = [{lengths}]\nrewards = [{rewards}]\n"


def fit_length_curve(scored: Sequence[Scored]) -> LengthCurve:
    """The curve that explains most of the rewards by length.

    Local linear regression (LOWESS without its robust rounds), in the spirit of Huang et al.,
    2409.17407. Each conversation has a level of its own, fitted along: some questions ask for long
    answers and others are scored high, and neither says what length does to a reward.

    Args:
        scored: conversations with their scored responses, such as a policy's first samples; some
            hundred responses in all, several for each conversation.

    Raises:
        ConfigurationError: too few responses, or their lengths do not vary.
    """
    rows = [
        (float(len(response)), reward, number)
        for number, responses in enumerate(scored)
        for response, reward in responses
    ]
    rows.sort()
    lengths = [length for length, _, _ in rows]
    count = len(rows)
    places = [0.05 + 0.9 * i / (_KNOTS - 1) for i in range(_KNOTS)]
    knots = sorted({lengths[round(place * (count - 1))] for place in places}) if rows else []
    if count < _FEWEST or len(knots) < 2:
        raise ConfigurationError(
            f"no length curve from {count} responses with {len(set(lengths))} different lengths: "
            f"give {_FEWEST} or more, of different lengths"
        )
    levels = [0.0] * len(scored)
    curve = LengthCurve(tuple(knots), (0.0,) * len(knots))
    for _ in range(_ROUNDS):
        residuals = [reward - levels[number] for _, reward, number in rows]
        values = [_local_line(lengths, residuals, knot) for knot in knots]
        middle = statistics.fmean(LengthCurve(tuple(knots), tuple(values)).at(x) for x in lengths)
        curve = LengthCurve(tuple(knots), tuple(value - middle for value in values))
        left: list[list[float]] = [[] for _ in scored]
        for length, reward, number in rows:
            left[number].append(reward - curve.at(length))
        levels = [statistics.fmean(rest) if rest else 0.0 for rest in left]
    return curve


def stored_scores(path: Path | str, reward_model: str | None = None) -> list[Scored]:
    """Scored first samples from a file that `tpo runs export` wrote, one item per conversation.

    Later iterations are left out: what a run has selected does not lie where the policy samples.

    Args:
        path: JSON Lines, a run each.
        reward_model: whose runs to read, by the name that is stored; needed when there are several.

    Raises:
        ConfigurationError: it cannot be read, or holds runs of several reward models.
    """
    found: dict[str, list[tuple[str, float]]] = {}
    names: set[str] = set()
    try:
        with Path(path).open(encoding="utf-8-sig") as lines:
            for line in filter(str.strip, lines):
                trajectory = cast("dict[str, Any]", json.loads(line))
                run = trajectory["run"]
                if reward_model not in (None, run["reward_model"]):
                    continue
                names.add(run["reward_model"])
                responses = found.setdefault(json.dumps(run["conversation"]), [])
                responses += [
                    (candidate["response"], float(candidate["reward"]))
                    for candidate in trajectory["candidates"]
                    if candidate["iteration"] == 0
                ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{str(path)!r} is not what `tpo runs export` writes: {type(error).__name__}: {error}"
        ) from error
    if len(names) > 1:
        raise ConfigurationError(
            f"{str(path)!r} holds runs of {sorted(names)!r}: say which with reward_model="
        )
    return list(found.values())


def _local_line(xs: Sequence[float], ys: Sequence[float], x0: float) -> float:
    """The value at `x0` of the line through the nearest points, near ones weighing more."""
    distances = [abs(x - x0) for x in xs]
    width = sorted(distances)[max(2, round(_SPAN * len(xs))) - 1] or 1.0
    weights = [max(0.0, 1 - (distance / width) ** 3) ** 3 for distance in distances]
    x_mean, y_mean = statistics.fmean(xs, weights), statistics.fmean(ys, weights)
    points = list(zip(weights, xs, ys, strict=True))
    spread = sum(w * (x - x_mean) ** 2 for w, x, _ in points)
    together = sum(w * (x - x_mean) * (y - y_mean) for w, x, y in points)
    return y_mean + (together / spread * (x0 - x_mean) if spread > 0 else 0.0)
