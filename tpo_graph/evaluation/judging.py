"""Win rates: by the reward model, by a held-out one, and by a chat model that reads both answers.

A judge is asked in both orders; a win is one in both. What it said is kept in a file beside the
comparison, so that a resumed comparison pays for no verdict again.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tpo_graph.concurrency.callbacks import settled
from tpo_graph.conversation import Turn, conversation_key, response_key
from tpo_graph.errors import ConfigurationError, RewardError
from tpo_graph.evaluation.results import Scorer, WinRate
from tpo_graph.evaluation.statistics import by_prompt, estimate_share
from tpo_graph.rewards.pairwise import PairwiseJudge
from tpo_graph.rewards.together import together

VERDICTS = "verdicts.jsonl"
"""Name of the file in a comparison's folder."""
_HOPELESS = 10
"""After this many failures and no verdict, the judge is given up."""

_WORTH = {"win": 1.0, "tie": 0.5, "inconsistent": 0.5, "loss": 0.0}


@dataclass(frozen=True)
class Outcome:
    """What was said of one prompt's two answers."""

    row_id: str
    seed: int
    verdict: Literal["win", "tie", "inconsistent", "loss", "failed"]
    """Of the first answer."""
    error: str | None = None

    @property
    def worth(self) -> float:
        """1 for a win, 0 for a loss, a half for anything between."""
        return _WORTH[self.verdict]


OnOutcome = Callable[[Outcome], Awaitable[None] | None]
"""Called with each verdict; awaited if it is async."""


@dataclass(frozen=True)
class Question:
    """Two answers to one conversation."""

    row_id: str
    seed: int
    conversation: Sequence[Turn]
    first: str
    second: str


def by_score(row_id: str, seed: int, first: float, second: float) -> Outcome:
    """The outcome by two scores: equal ones are a tie."""
    verdict = "win" if first > second else "loss" if first < second else "tie"
    return Outcome(row_id, seed, verdict)


def win_rate(by: Scorer, scorer: str, outcomes: Sequence[Outcome]) -> WinRate:
    """Counts over all runs; the rate and its interval are over prompts."""
    count = [outcome.verdict for outcome in outcomes].count
    decided = [(one.row_id, one.worth) for one in outcomes if one.verdict != "failed"]
    return WinRate(
        by=by,
        scorer=scorer,
        wins=count("win"),
        ties=count("tie") + count("inconsistent"),
        losses=count("loss"),
        rate=estimate_share(list(by_prompt(decided).values())) if decided else None,
        inconsistent=count("inconsistent"),
        failed=count("failed"),
        error=next((outcome.error for outcome in outcomes if outcome.error), None),
    )


class Judge:
    """A chat model as a judge of pairs, whose verdicts are kept in a folder if one is given.

    Raises:
        ConfigurationError: the file of verdicts cannot be read.
    """

    def __init__(self, pairwise: PairwiseJudge, folder: Path | None = None) -> None:
        self._pairwise = pairwise
        self._file = None if folder is None else folder / VERDICTS
        self._known = {} if self._file is None else _read(self._file, pairwise.name)
        self._failures = 0

    @property
    def name(self) -> str:
        """Model and digest of the instructions."""
        return self._pairwise.name.removesuffix(":None")

    async def outcomes(
        self, questions: Sequence[Question], on_outcome: OnOutcome | None = None
    ) -> list[Outcome]:
        """One outcome per question, in order; a judge that fails is an outcome too.

        Equal answers are a tie, for which nobody is asked.

        Raises:
            ConfigurationError: the file of verdicts cannot be written.
        """

        async def outcome(question: Question) -> Outcome:
            found = await self._outcome(question)
            if on_outcome is not None:
                await settled(on_outcome(found))
            return found

        # The judge itself bounds how many it is asked at once.
        return await together(outcome(question) for question in questions)

    async def _outcome(self, question: Question) -> Outcome:
        if question.first == question.second:
            return Outcome(question.row_id, question.seed, "tie")
        key = (
            conversation_key(question.conversation),
            response_key(question.first),
            response_key(question.second),
        )
        if key not in self._known:
            try:
                said = await self._ask(question)
            except RewardError as e:
                return Outcome(question.row_id, question.seed, "failed", str(e))
            self._known[key] = said
            self._keep(key, said)
        one, other = self._known[key]
        if one > 0 and other > 0:
            verdict = "win"
        elif one < 0 and other < 0:
            verdict = "loss"
        else:
            verdict = "tie" if one == other == 0 else "inconsistent"
        return Outcome(question.row_id, question.seed, verdict)

    async def _ask(self, question: Question) -> tuple[float, float]:
        if self._failures >= _HOPELESS:
            raise RewardError(f"not asked: the first {_HOPELESS} verdicts failed")
        try:
            said = await self._pairwise.both_ways(
                question.conversation, question.first, question.second
            )
        except RewardError:
            # Once it has said anything, it is worth being asked.
            self._failures += not self._known
            raise
        return said

    def _keep(self, key: tuple[str, str, str], said: tuple[float, float]) -> None:
        if self._file is None:
            return
        names = ("conversation", "first", "second", "verdict", "verdict_swapped")
        row = {"judge": self._pairwise.name, **dict(zip(names, (*key, *said), strict=True))}
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as e:
            raise ConfigurationError(f"{str(self._file)!r} cannot be written: {e}") from e


def _read(file: Path, judge: str) -> dict[tuple[str, str, str], tuple[float, float]]:
    """The verdicts of this judge; a line that was cut off is one that is asked again."""
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        if text and not text.endswith("\n"):
            with file.open("a", encoding="utf-8") as cut:
                cut.write("\n")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigurationError(
            f"the verdicts in {str(file)!r} cannot be read: {e}. Delete the file to ask again."
        ) from e
    known: dict[tuple[str, str, str], tuple[float, float]] = {}
    for line in text.splitlines():
        try:
            row = json.loads(line)
            if row["judge"] == judge:
                key: tuple[str, str, str] = row["conversation"], row["first"], row["second"]
                known[key] = float(row["verdict"]), float(row["verdict_swapped"])
        except (ValueError, KeyError, TypeError):
            continue
    return known
