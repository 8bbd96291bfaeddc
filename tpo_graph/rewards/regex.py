"""`RegexReward`: what a response must and must not contain, as weighted regular expressions."""

import asyncio
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator

from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError
from tpo_graph.files.toml import Table, read_toml
from tpo_graph.rewards.base import Score

_SHOWN = 3


class Rule(Table):
    """One thing that a response must contain, or must not."""

    pattern: str
    """Searched anywhere in the response; flags stand in it, as in "(?im)^summary:"."""
    forbidden: bool = False
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    message: str | None = None
    """What a violation means, for the critic."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from error
        return pattern


class _File(Table):
    rule: list[Rule] = Field(min_length=1)


class RegexReward:
    """Scores by the weighted share of the rules that a response keeps, from 0 to 1.

    Args:
        rules: at least one.

    Raises:
        ConfigurationError: there are none.
    """

    bounded = True

    def __init__(self, rules: Sequence[Rule]) -> None:
        if not rules:
            raise ConfigurationError("a regex reward needs rules, and there are none")
        self._rules = [(rule, re.compile(rule.pattern)) for rule in rules]
        described = json.dumps([rule.model_dump() for rule in rules])
        self.name = f"regex@{hashlib.sha256(described.encode()).hexdigest()[:12]}"

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """From a TOML file with `[[rule]]`s.

        Raises:
            ConfigurationError: the file cannot be read, or says something else.
        """
        return cls(read_toml(path, _File).rule)

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`. The reason names the first violations."""
        return await asyncio.to_thread(lambda: list(map(self._score, responses)))

    def _score(self, response: str) -> float:
        broken = [
            rule
            for rule, pattern in self._rules
            if (pattern.search(response) is not None) == rule.forbidden
        ]
        total = sum(rule.weight for rule, _ in self._rules)
        kept = total - sum(rule.weight for rule in broken)
        return Score(kept / total, "\n".join(map(_told, broken[:_SHOWN])))


def _told(rule: Rule) -> str:
    if rule.message:
        return rule.message
    return f"{'contains' if rule.forbidden else 'does not contain'} {rule.pattern!r}"
