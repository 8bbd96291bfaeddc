"""A tempered choice: candidates win with probabilities that rise with their rewards.

Soft best-of-n (studied in arXiv 2506.19248) draws the answer from softmax(reward / temperature)
instead of taking the argmax. A reward model that is optimised hard is exploited; the temperature
hedges against that. Here it is counted in standard deviations of the first samples' rewards, so
that one number means the same for every reward model; their own parameter is on the raw scale.
"""

import math
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from tpo_graph.candidates import Candidate, is_cut

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from tpo_graph.conversation import Turn


class Tempered:
    """Softmax over all candidates, by the Gumbel-max trick: one finalist is enough.

    The answer may be worse, by the reward model, than the best first sample: that is the point.

    Args:
        temperature: in standard deviations of the first samples' rewards, above 0.
    """

    keep = 1

    def __init__(self, temperature: float = 0.5) -> None:
        self._temperature = temperature
        self.name = f"tempered:{temperature:g}"

    def order(self, candidate: Candidate, scale: float, salt: str) -> Any:
        """See `Pick`."""
        place = candidate["iteration"], candidate["position"]
        drawn = Random(f"{salt}/{place}").random()
        gumbel = -math.log(-math.log(max(drawn, 1e-300)))
        return (
            is_cut(candidate),
            -(candidate["reward"] + self._temperature * scale * gumbel),
            *place,
        )

    async def __call__(
        self,
        finalists: Sequence[Candidate],
        conversation: "Sequence[Turn]",
        critic: "BaseChatModel",
    ) -> Candidate:
        """See `Pick`."""
        return finalists[0]
