"""`JsonSchemaReward`: is the response JSON, and does it fit a schema?"""

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError
from tpo_graph.extras import extra
from tpo_graph.rewards.base import Score

_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*?)```", re.DOTALL | re.IGNORECASE)
_SHOWN = 3


class JsonSchemaReward:
    """Scores JSON by a schema: 1 when it fits, 1/(1 + violations) when not, 0 when it is not JSON.

    The JSON is the whole response, or what stands in its one code block.

    Args:
        schema: a JSON Schema; the draft is the one that its "$schema" names, else the newest.

    Raises:
        ConfigurationError: it is no schema, or the package jsonschema is missing.
    """

    bounded = True

    def __init__(self, schema: Mapping[str, Any]) -> None:
        with extra("json-schema", "a JSON schema"):
            from jsonschema import exceptions, validators
        kind: Any = validators.validator_for(schema)
        try:
            kind.check_schema(schema)
        except exceptions.SchemaError as error:
            raise ConfigurationError(f"not a JSON schema: {error.message}") from error
        self._validator: Any = kind(schema)
        described = json.dumps([schema, kind.__name__], sort_keys=True)
        self.name = f"json-schema@{hashlib.sha256(described.encode()).hexdigest()[:12]}"

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """From a file with the schema.

        Raises:
            ConfigurationError: it cannot be read, or is not a JSON schema.
        """
        try:
            schema: object = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"the schema {str(path)!r} cannot be read: {error}") from error
        if not isinstance(schema, dict):
            raise ConfigurationError(f"the schema {str(path)!r} must be a JSON object")
        return cls(cast("dict[str, Any]", schema))

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`. The reason names the first violations and where they are."""
        return await asyncio.to_thread(lambda: list(map(self._score, responses)))

    def _score(self, response: str) -> float:
        blocks = _FENCED.findall(response)
        try:
            found: object = json.loads(blocks[0] if len(blocks) == 1 else response)
        except (ValueError, RecursionError) as error:
            return Score(0.0, f"it is not JSON: {error}")
        told = self._violations(found)
        return Score(1 / (1 + len(told)), "\n".join(told[:_SHOWN]))

    def violation(self, found: object) -> str | None:
        """The first violation of the schema in a JSON value, and where it is; None when it fits."""
        return next(iter(self._violations(found)), None)

    def _violations(self, found: object) -> list[str]:
        errors = sorted(self._validator.iter_errors(found), key=lambda e: list(map(str, e.path)))
        return [f"{e.json_path}: {e.message[:200]}" for e in errors]
