"""Short texts for a publisher whose style guide the request does not mention.

The second kind of reward that knows more than the request and says it (`linted.py` is the first):
an editor. The request asks for a text that uses three given words. The reward is half those words
and half six rules of a plain-language guide, with a reason for each broken one; the score is the
words and twelve rules, of which no method sees the last six.

The family comes in two wordings that differ in nothing else: `styled` says what to change,
`styled-faults` says what is wrong.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from benchmarks.real.requirements import TOPICS, words
from benchmarks.real.tasks import Task
from tpo_graph.rewards import Score

_WORDS = ("water", "morning", "hands", "light", "people", "winter", "table", "stone", "garden")
_VAGUE = {
    *("many", "various", "several", "often", "usually", "generally", "typically", "very", "really"),
    *("quite", "some", "certain", "important", "significant", "essential", "crucial", "numerous"),
}
_IRREGULAR = "made|done|known|found|kept|held|given|taken|seen|built|put|set|cut"
_PASSIVE = re.compile(
    rf"\b(?:is|are|was|were|be|been|being)\s+(?:\w+ed|{_IRREGULAR})\b", re.IGNORECASE
)
_CONNECTIVE = re.compile(
    r"(?:^|[.!?]\s+)(?:additionally|moreover|furthermore|however|overall|in conclusion)\b",
    re.IGNORECASE | re.MULTILINE,
)
_EMPTY_OPENING = re.compile(r"(?:^|[.!?]\s+)(?:There|It) (?:is|are)\b")


@dataclass(frozen=True)
class Rule:
    """A rule of the guide."""

    broken: Callable[[str], str]
    """Where a text breaks it, in the text's words or "-"; "" if it does not."""
    change: str = ""
    """What to do about it; {} is the place."""
    fault: str = ""
    """What is wrong; {} is the place."""


def sentences(text: str) -> list[str]:
    """The sentences: runs of text closed by a full stop, ! or ?, by a line's end, or by the end."""
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip()]


def _long_sentence(text: str) -> str:
    return next((part for part in sentences(text) if len(words(part)) > 18), "")


def _passive(text: str) -> str:
    found = _PASSIVE.search(text)
    return f'"{found[0]}"' if found else ""


def _here(breaks: Callable[[str], object]) -> Callable[[str], str]:
    """A rule about the whole text has no place to name."""
    return lambda text: "-" if breaks(text) else ""


SEEN = (
    Rule(
        _long_sentence,
        "Split this sentence, it has more than 18 words: {}",
        "A sentence has more than 18 words: {}",
    ),
    Rule(_passive, "Do not write {} (passive voice): say who does it.", "Passive voice: {}."),
    Rule(
        lambda text: ", ".join(sorted(_VAGUE & set(words(text)))),
        "Leave out the vague words: {}.",
        "Vague words: {}.",
    ),
    Rule(
        _here(lambda text: "you" not in words(text)),
        'Speak to the reader: use the word "you".',
        'It never speaks to the reader as "you".',
    ),
    Rule(
        _here(lambda text: not (sentences(text) or [""])[0].endswith("?")),
        "Begin with a question that a reader would ask.",
        "Its first sentence is not a question of the reader's.",
    ),
    Rule(
        _here(lambda text: not text.strip().rpartition("\n")[2].startswith("Tip:")),
        'End with a tip for the reader, on a line of its own that begins with "Tip:".',
        'It does not end with a line that begins with "Tip:".',
    ),
)
"""What the reward knows."""
ALL = (
    *SEEN,
    Rule(_here(lambda text: any(len(word) > 11 for word in words(text)))),
    Rule(_here(_CONNECTIVE.search)),
    Rule(_here(_EMPTY_OPENING.search)),
    Rule(_here(lambda text: sum(word.endswith("ly") for word in words(text)) > 2)),
    Rule(_here(lambda text: re.search(r"[();]", text))),
    Rule(_here(lambda text: not 50 <= len(words(text)) <= 150)),
)
"""What the score knows."""


def load(*, faults: bool = False) -> list[Task]:
    """All tasks of the family, the same ones always.

    Args:
        faults: The reasons say what is wrong, and not what to change.
    """
    return [_task(number, topic, faults) for number, topic in enumerate(TOPICS)]


def _task(number: int, topic: str, faults: bool) -> Task:
    wanted = random.Random(number).sample(_WORDS, 3)

    def missing(answer: str) -> list[str]:
        found = set(words(answer))
        return [word for word in wanted if word not in found]

    def value(answer: str, broken: int, rules: int) -> float:
        kept = 1 - len(missing(answer)) / len(wanted)
        # Rounded, so that two answers with the same faults are a tie, whatever was added first.
        return round((kept + 1 - broken / rules) / 2, 6) if answer.strip() else 0.0

    @lru_cache(maxsize=4096)
    def reward(answer: str) -> Score:
        absent = 'The word "{}" is missing.' if faults else 'Use the word "{}".'
        told = [
            (rule.fault if faults else rule.change).format(place)
            for rule in SEEN
            if (place := rule.broken(answer))
        ]
        reasons = [*(absent.format(word) for word in missing(answer)), *told]
        return Score(value(answer, len(told), len(SEEN)), "\n".join(reasons))

    def score(answer: str) -> float:
        return value(answer, sum(bool(rule.broken(answer)) for rule in ALL), len(ALL))

    request = (
        f"Write a short text of about 100 words for our readers that explains {topic}. "
        f'Use the words "{wanted[0]}", "{wanted[1]}" and "{wanted[2]}".'
    )
    return Task(f"styled/{number}", request, reward, score)
