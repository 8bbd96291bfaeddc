"""The output of `tpo batch`, sorted by what became of each row: answered, failed, not finished."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.benchmarks.source import read_file
from tpo_graph.usage import Ledger, total_tokens

_OWN = {"id", "response", "reward", "iteration", "stop_reason", "usage", "error"}


@dataclass(frozen=True)
class Answer:
    """A row that was answered."""

    id: str
    response: str
    reward: float | None
    columns: dict[str, Any]
    """The input's columns."""
    tokens: int | None
    """Prompt and completion tokens of the run, the reward model's left out."""


@dataclass(frozen=True)
class Outcomes:
    """All rows of an output file. Nothing is left out: what cannot be scored is counted."""

    answers: list[Answer]
    failed: dict[str, str]
    """Row id -> its error."""
    unfinished: list[str]
    """Ids of rows with neither an answer nor an error."""

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.answers) + len(self.failed) + len(self.unfinished)


def read_outcomes(path: Path) -> Outcomes:
    """The rows of an output file of `tpo batch`, JSONL or JSON.

    Raises:
        ConfigurationError: it cannot be read, is something else, or has an id twice.
    """
    if path.suffix not in (".jsonl", ".json"):  # tables keep numbers and ledgers as text
        raise ConfigurationError(
            f"give the output of tpo batch as JSONL or JSON, not {path.name!r}: the same tpo batch "
            "again with --output FILE.jsonl and --name of that batch writes one"
        )
    outcomes = Outcomes([], {}, [])
    seen: set[str] = set()
    for number, row in enumerate(read_file(path), 1):
        row_id = row.get("id")
        if row_id is None or "response" not in row:
            raise ConfigurationError(
                f"row {number} of {str(path)!r} has no 'id' and 'response', only {list(row)!r}: "
                "give the output file of tpo batch."
            )
        row_id = str(row_id)
        if row_id in seen:
            raise ConfigurationError(f"{str(path)!r} has the id {row_id!r} twice")
        seen.add(row_id)
        response: object = row["response"]
        if row.get("error"):
            outcomes.failed[row_id] = str(row["error"])
        elif isinstance(response, str):
            columns = {name: value for name, value in row.items() if name not in _OWN}
            reward = row.get("reward")
            usage: Ledger | None = row.get("usage")
            tokens = total_tokens(usage) if usage else None
            outcomes.answers.append(Answer(row_id, response, reward, columns, tokens))
        else:
            outcomes.unfinished.append(row_id)
    return outcomes
