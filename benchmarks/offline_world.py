"""The offline example for benchmarks: its policy, many runs side by side, what gold says of them.

Runs go through the graph as anyone's do; only the policy's calls are gathered into batches
(`examples/offline/batched.py`). What is not given here comes from `examples/offline/tpo.toml`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

OFFLINE = Path(__file__).parent.parent / "examples" / "offline"
MODELS = OFFLINE / "models"
sys.path.insert(0, str(OFFLINE))  # its modules import each other by name

import batched  # noqa: E402
import numpy as np  # noqa: E402
from arms import Arm, Setting, sampling  # noqa: E402
from study import held_out_queries  # noqa: E402
from taste import GOLD  # noqa: E402
from world import Query  # noqa: E402

from tpo_graph import Candidate  # noqa: E402
from tpo_graph.candidates import best  # noqa: E402
from tpo_graph.rewards import RewardModel, load_reward_model  # noqa: E402

Scores = np.ndarray[tuple[int, int], np.dtype[np.float64]]
"""Shape (queries, iterations)."""

batched.PAUSE = 0.2  # hundreds of runs wait for each other anyway
_RESAMPLES = 2000


class Runs(NamedTuple):
    """What one arm did."""

    queries: list[Query]
    candidates: list[list[Candidate]]
    """Of each run."""
    states: list[dict[str, Any]]
    """The graph's last state of each run."""

    def best_so_far(self) -> list[list[Candidate]]:
        """Of each run the best candidate up to every iteration."""
        last = max(c["iteration"] for run in self.candidates for c in run)
        return [
            [best(c for c in run if c["iteration"] <= step) for step in range(last + 1)]
            for run in self.candidates
        ]

    def proxy(self) -> Scores:
        """The reward of the best reply so far."""
        return np.array([[c["reward"] for c in steps] for steps in self.best_so_far()])

    def gold(self, taste: str) -> Scores:
        """What the world's own taste says of the same replies."""
        rows = zip(self.queries, self.best_so_far(), strict=True)
        return np.array([[gold(taste, q, c["response"]) for c in steps] for q, steps in rows])


def gold(taste: str, query: Query, response: str) -> float:
    """The score that a reward model can only guess."""
    return GOLD[taste].score(query, response)


def committed(name: str) -> RewardModel:
    """One of the reward models in `examples/offline/models`."""
    return load_reward_model(f"local:{MODELS / name}")


async def play(
    queries: list[Query], reward_model: RewardModel, depth: int, width: int, seed: int, **more: Any
) -> Runs:
    """Run every query to its end.

    Args:
        more: other fields of `TPOContext`.
    """
    setting = Setting(MODELS, reward_model, sampling() | more, seed)
    arm = Arm(setting, depth=depth, width=width)
    states = await arm.step(queries, len(queries))
    return Runs(queries, await arm.candidates(len(queries)), states)


def interval(values: Sequence[float] | np.ndarray[Any, Any]) -> str:
    """Mean over queries with its bootstrap 95% interval."""
    given = np.asarray(values, dtype=float)
    draws = np.random.default_rng(0).choice(given, (_RESAMPLES, len(given))).mean(axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return f"{given.mean():.2f} [{low:.2f}, {high:.2f}]"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows under each other; the first is the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


__all__ = ["MODELS", "Runs", "committed", "gold", "held_out_queries", "interval", "play", "table"]
