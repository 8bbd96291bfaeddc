"""The answer of TPO and of best-of-N: the highest reward of all iterations (arXiv 2501.12895)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tpo_graph.candidates import Candidate, rank

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from tpo_graph.conversation import Turn


class Argmax:
    """argmax C; ties go to the earliest."""

    name, keep = "argmax", 1

    def order(self, candidate: Candidate, scale: float, salt: str) -> Any:
        """See `Pick`."""
        return rank(candidate)

    async def __call__(
        self,
        finalists: Sequence[Candidate],
        conversation: "Sequence[Turn]",
        critic: "BaseChatModel",
    ) -> Candidate:
        """See `Pick`."""
        return finalists[0]
