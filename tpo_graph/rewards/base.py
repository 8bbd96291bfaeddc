"""`RewardModel`: what scores candidates, and the calls through which everything else asks it."""

import inspect
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from numbers import Real
from typing import Protocol, cast, runtime_checkable

from tpo_graph.candidates import Score
from tpo_graph.concurrency.outages import reached
from tpo_graph.conversation import Turn, well_formed
from tpo_graph.errors import RewardError, RewardInputError, ServerAwayError
from tpo_graph.rewards.together import keeping, together

_log = logging.getLogger(__name__)
_told: set[str] = set()


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
        """One finite number per response, in order: a plain number, or a `Score` that says why. The
        response alone is judged: critiques and other candidates are never part of the conversation.

        Args:
            conversation: what was answered, system prompt and history included.
            responses: answers to it; may be empty.

        Raises:
            RewardError: the model failed. `RewardInputError` if these texts cannot be scored.
        """
        ...


def reuses_scores(model: RewardModel, *, tell: bool = True) -> bool:
    """Whether scores that are stored under the model's name are its own.

    Not so for a model with a text in `nameless`, such as a function that reads a file: its name
    cannot tell it from others, so its scores are made anew. With `tell` this is logged, once for
    each name.
    """
    why: str | None = getattr(model, "nameless", None)
    if why is not None and tell and model.name not in _told:
        _told.add(model.name)
        _log.warning(
            "stored scores of the reward model %r are not used: %s, so its name does not say what "
            "it computes. Name it: FunctionReward(function, name='...-1') in Python, "
            "python:FILE.py?name=...#NAME in a spec.",
            model.name,
            why,
        )
    return why is None


async def checked_scores(
    model: RewardModel, conversation: Sequence[Turn], responses: Sequence[str]
) -> list[Score]:
    """`model.score`, with its promises enforced; a batch waits here for a server that is away.

    Raises:
        RewardError: it raised anything, returned another number of scores, or one that is not a
            finite number.
    """
    scores = await _attempt(model, conversation, responses)
    for score in scores:
        if isinstance(score, RewardInputError):
            raise RewardError(str(score))
    return cast("list[Score]", scores)


async def score_each(
    model: RewardModel,
    conversation: Sequence[Turn],
    responses: Sequence[str],
    kept: dict[str, Score] | None = None,
) -> list[Score | RewardInputError]:
    """Scores in order, with an error in the place of each response that cannot be scored.

    One response that is too long must not cost the others their scores: when the call fails because
    of what is in it, each response that has no score yet is scored on its own.

    Args:
        kept: gets each score as it is made, those included that were made before an error or a
            cancellation. What is in it already is not asked for.

    Raises:
        RewardError: the model failed for another reason (a server that is down, a wrong key), or
            broke a promise of `RewardModel.score`.
    """
    kept = {} if kept is None else kept
    scores: list[Score | RewardInputError]
    try:
        scores = await _attempt(model, conversation, responses, kept)
    except RewardInputError as error:
        scores = [kept.get(response, error) for response in responses]
    if len(responses) < 2:
        return scores
    failed = [i for i, score in enumerate(scores) if isinstance(score, RewardInputError)]
    alone = await together(score_each(model, conversation, [responses[i]], kept) for i in failed)
    for i, (score,) in zip(failed, alone, strict=True):
        scores[i] = score
    return scores


async def part_scores(
    model: RewardModel, conversation: Sequence[Turn], responses: Sequence[str]
) -> list[Score]:
    """`checked_scores` for a reward model that is made of others: what one of them cannot score,
    the whole cannot, and that is no failure.

    Raises:
        RewardInputError: one of the responses has no finite score.
        RewardError: as `checked_scores`.
    """
    scores = await _attempt(model, conversation, responses)
    for score in scores:
        if isinstance(score, RewardInputError):
            raise score
    return cast("list[Score]", scores)


async def _attempt(
    model: RewardModel,
    conversation: Sequence[Turn],
    responses: Sequence[str],
    kept: dict[str, Score] | None = None,
) -> list[Score | RewardInputError]:
    """`model.score`, checked; a score that is not finite becomes the error that says so."""
    known = {} if kept is None else kept

    async def ask() -> list[Score | RewardInputError]:
        missing = [response for response in responses if response not in known]
        if responses and not missing:
            return [known[response] for response in responses]
        fresh = iter(await _asked(model, conversation, missing, known))
        return [known[r] if r not in missing else next(fresh) for r in responses]

    return await reached(model.name, ask)


def title_of(model: RewardModel) -> str:
    """What errors and warnings call it: "model 'judge:openai:gpt-4o'", "function f (app.py:12)"."""
    title: str | None = getattr(model, "title", None)
    return f"model {model.name!r}" if title is None else title


async def _asked(
    model: RewardModel,
    conversation: Sequence[Turn],
    responses: Sequence[str],
    kept: dict[str, Score],
) -> list[Score | RewardInputError]:
    early: dict[str, float] = {}
    try:
        with keeping() as early:
            scores = await _listed(model, model.score(conversation, responses))
    except (RewardError, ServerAwayError):
        raise
    except Exception as error:
        raise RewardError(
            f"reward {title_of(model)} failed: {type(error).__name__}: {error}"
        ) from error
    finally:
        kept.update(_sound(model, dict(early)))
    if len(scores) != len(responses):
        raise RewardError(
            f"reward {title_of(model)} returned {len(scores)} scores for {len(responses)} "
            "responses: score must return one per response, in order."
        )
    told = [f"{i}, {response[:80]!r}" for i, response in enumerate(responses)]
    checked = [_checked(model, *pair) for pair in zip(told, scores, strict=True)]
    pairs = zip(responses, checked, strict=True)
    kept.update((response, score) for response, score in pairs if isinstance(score, Score))
    return checked


async def _listed(model: RewardModel, given: object) -> list[object]:
    """The scores that a call of `score` has given, as a list; they are not checked yet."""
    if not inspect.isawaitable(given):
        raise RewardError(
            f"score of the reward {title_of(model)} is not async: it returned {given!r:.200}. "
            "Write `async def score(self, conversation, responses)`, and return a list."
        )
    scores: object = await given
    if not isinstance(scores, Iterable):
        raise RewardError(
            f"reward {title_of(model)} returned {scores!r:.200} for all responses: score must "
            "return a list, with one number per response."
        )
    return list(cast("Iterable[object]", scores))


def _sound(model: RewardModel, scores: Mapping[str, object]) -> dict[str, Score]:
    """Those that keep the promises of `RewardModel.score`; who breaks them is told elsewhere."""
    found: dict[str, Score] = {}
    for response, score in scores.items():
        with suppress(RewardError):
            if isinstance(checked := _checked(model, "", score), Score):
                found[response] = checked
    return found


def _checked(model: RewardModel, which: str, score: object) -> Score | RewardInputError:
    if not isinstance(score, Real):
        raise RewardError(
            f"reward {title_of(model)} returned {score!r:.200} for response {which}: "
            "scores must be plain numbers, such as float(tensor), or `Score`."
        )
    try:
        value = float(score)
    except OverflowError:  # an integer or a fraction that no float can hold
        value = math.inf if cast(float, score) > 0 else -math.inf
    if not math.isfinite(value):
        return RewardInputError(
            f"reward {title_of(model)} returned {value!r} for response {which}: a score that is "
            "not finite cannot be compared. Score that response by hand to see why."
        )
    reason = cast(object, score.reason if isinstance(score, Score) else "")
    if not isinstance(reason, str):
        raise RewardError(
            f"reward {title_of(model)} gave the reason {reason!r:.200} for response {which}: "
            "reasons are text."
        )
    return Score(value, well_formed(reason))
