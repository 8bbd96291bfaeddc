"""What a set-up is asked: answers with a planted defect, and pairs of a good and a bad answer.

They are data: `probes.toml` comes with the package, a file of your own in the same form fits
another world (`tpo check --probes FILE`). A program sees whether a text keeps a requirement, so
that no judge is needed.
"""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from tpo_graph.conversation import Turn
from tpo_graph.files.toml import Table, read_toml

_DEFAULT = Path(__file__).with_name("probes.toml")


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
"""A regular expression, searched for in the whole text with DOTALL and MULTILINE."""


class Probe(Table):
    """A request with requirements that a program can check, and an answer that breaks one."""

    query: str
    """The request."""
    chosen: str
    """An answer that meets every requirement but `defect`."""
    rejected: str
    """An answer that is worse."""
    requirements: dict[str, Pattern] = Field(min_length=1)
    """Name -> what an answer that meets it matches."""
    defect: str
    """The requirement that `chosen` breaks."""
    named: Pattern
    """What a critique that found the defect matches."""
    loss: str
    """A right critique."""
    gradient: str
    """A right instruction: an answer that follows it meets every requirement."""

    @model_validator(mode="after")
    def _planted(self) -> Self:
        broken = [name for name in self.requirements if not self._keeps(name, self.chosen)]
        if broken != [self.defect]:
            raise ValueError(f"chosen must break {self.defect!r} and nothing else, not {broken!r}")
        if self.met(self.rejected) > self.met(self.chosen):
            raise ValueError("rejected meets more requirements than chosen")
        return self

    def met(self, answer: str) -> int:
        """How many of the requirements an answer meets."""
        return sum(self._keeps(name, answer) for name in self.requirements)

    def finds_defect(self, critique: str) -> bool:
        """Whether a critique names what is wrong with `chosen`."""
        return _found(self.named, critique)

    def _keeps(self, name: str, answer: str) -> bool:
        return _found(self.requirements[name], answer.strip())


def _found(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.DOTALL | re.MULTILINE) is not None


class Pair(Table):
    """A question with an obviously better and an obviously worse answer."""

    question: str
    better: str
    worse: str

    @property
    def conversation(self) -> list[Turn]:
        """The question as a conversation."""
        return [Turn(role="user", content=self.question)]


class Probes(Table):
    """All that `tpo check` asks."""

    question: str
    """What the policy is asked for its first samples."""
    probes: list[Probe] = Field(min_length=1)
    """For policy, critic and prompts."""
    pairs: list[Pair] = Field(min_length=1)
    """For reward models. Easy on purpose: one that fails several is loaded wrongly, or is none."""


def load_probes(file: str | Path | None = None) -> Probes:
    """The probes of a file; the package's own when None.

    Raises:
        ConfigurationError: the file cannot be read or does not have the form.
    """
    return read_toml(Path(file or _DEFAULT), Probes, "file of probes")
