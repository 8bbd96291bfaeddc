"""`RewardModel`: what scores candidates, and the one call through which the graph asks it."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Protocol, runtime_checkable

from tpo_graph.conversation import Turn
from tpo_graph.errors import RewardError, ServerAwayError
from tpo_graph.outages import reached


@runtime_checkable
class RewardModel(Protocol):
    """Scores responses to a conversation; more is better, the scale is the model's own.

    Any object of this shape will do::

        class Brevity:
            name = "brevity-1"  # change it whenever scores change: stored scores are kept by name

            async def score(self, conversation, responses):
                return [-float(len(response)) for response in responses]
    """

    @property
    def name(self) -> str:
        """Identity in the score cache: model, revision and template, the same in any process."""
        ...

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """One finite number per response, in order. The response alone is judged: critiques and
        other candidates are never part of the conversation.

        Args:
            conversation: what was answered, system prompt and history included.
            responses: answers to it; may be empty.

        Raises:
            RewardError: the model failed. `RewardInputError` if these texts cannot be scored.
        """
        ...


async def checked_scores(
    model: RewardModel, conversation: Sequence[Turn], responses: Sequence[str]
) -> list[float]:
    """`model.score`, with its promises enforced; a batch waits here for a server that is away.

    Raises:
        RewardError: it raised anything, returned another number of scores, or one that is not a
            finite number.
    """
    return await reached(model.name, lambda: _checked(model, conversation, responses))


async def _checked(
    model: RewardModel, conversation: Sequence[Turn], responses: Sequence[str]
) -> list[float]:
    try:
        scores = list(await model.score(conversation, responses))
    except (RewardError, ServerAwayError):
        raise
    except Exception as error:
        raise RewardError(
            f"reward model {model.name!r} failed: {type(error).__name__}: {error}"
        ) from error
    if len(scores) != len(responses):
        raise RewardError(
            f"reward model {model.name!r} returned {len(scores)} scores for {len(responses)} "
            "responses: score must return one per response, in order."
        )
    return [_finite(model.name, i, score) for i, score in enumerate(scores)]


def _finite(name: str, index: int, score: object) -> float:
    if not isinstance(score, Real):
        raise RewardError(
            f"reward model {name!r} returned {score!r} for response {index}: "
            "scores must be plain numbers, such as float(tensor)."
        )
    value = float(score)
    if not math.isfinite(value):
        raise RewardError(
            f"reward model {name!r} returned {value!r} for response {index}: a score that is not "
            "finite cannot be compared. Score that response by hand to see why."
        )
    return value
