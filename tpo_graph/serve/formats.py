"""`response_format`: which responses keep to it, and a reward model that gives the others none."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from tpo_graph.conversation import Turn
from tpo_graph.errors import RewardInputError
from tpo_graph.rewards import RewardModel, Score, score_each
from tpo_graph.rewards.together import keep
from tpo_graph.serve.refusals import invalid


class Format:
    """A form that the answer must have.

    Args:
        given: `response_format` of a request.

    Raises:
        Refusal: it is of another type than json_object and json_schema, or holds no schema.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        kind = given.get("type")
        if kind not in ("json_object", "json_schema"):
            raise invalid(
                f"response_format.type is {kind!r:.100}; there are text, json_object, json_schema",
                "response_format",
            )
        about: Any = given.get("json_schema")
        told: dict[str, Any] = cast("dict[str, Any]", about) if isinstance(about, dict) else {}
        self.schema: Any = told.get("schema")
        if kind == "json_schema" and not isinstance(self.schema, dict):
            raise invalid("response_format.json_schema.schema is missing", "response_format")
        self._fits = _is_object
        if kind == "json_schema":
            self._fits = _validator(cast("dict[str, Any]", self.schema))
        described = json.dumps([kind, self.schema], sort_keys=True)
        self.digest = hashlib.sha256(described.encode()).hexdigest()[:12]

    @property
    def criteria(self) -> str:
        """What the critic and the updates are told."""
        told = "The answer must be one JSON object and nothing else: no words around it, no code"
        return f"{told} block." + (
            f" It must fit this JSON schema: {json.dumps(self.schema)}" if self.schema else ""
        )

    def fits(self, response: str) -> bool:
        """Whether a client that parses the whole response gets what it asked for."""
        try:
            return self._fits(json.loads(response))
        except (ValueError, RecursionError):
            return False


class Formatted:
    """A reward model's scores of what keeps to a form; what does not gets none, and never wins.

    Args:
        inner: scores what does.
    """

    def __init__(self, inner: RewardModel, form: Format) -> None:
        self._inner, self._form = inner, form
        self.name = f"{inner.name}+format@{form.digest}"
        self.nameless = getattr(inner, "nameless", None)

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`.

        Raises:
            RewardInputError: one of the responses breaks the form, or cannot be scored; the scores
                of the others are kept.
        """
        fitting = [response for response in responses if self._form.fits(response)]
        kept: dict[str, Score] = {}
        try:
            scores = await score_each(self._inner, conversation, fitting, kept) if fitting else []
        finally:
            keep(list(kept), list(kept.values()))
        for score in scores:
            if isinstance(score, RewardInputError):
                raise score
        if len(fitting) < len(responses):
            raise RewardInputError(
                "the response does not keep to the request's response_format, so it gets no reward "
                "and cannot be the answer"
            )
        return [kept[response] for response in responses]


def _is_object(found: object) -> bool:
    return isinstance(found, dict)


def _validator(schema: Mapping[str, Any]) -> Callable[[object], bool]:
    from jsonschema import exceptions, validators
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    if not isinstance(schema.get("$schema", ""), str):
        raise invalid("response_format: $schema is not a text", "response_format")
    kind: Any = validators.validator_for(schema)
    try:
        kind.check_schema(schema)
    except exceptions.SchemaError as error:
        raise invalid(
            f"response_format: not a JSON schema: {error.message}", "response_format"
        ) from None
    # With a registry of its own it never fetches what a "$ref" names: a client wrote that.
    validator: Any = kind(schema, registry=cast(Any, Registry)())

    def fits(found: object) -> bool:
        try:
            return bool(validator.is_valid(found))
        except Unresolvable:
            return False

    return fits
