"""Short texts for a publisher whose style guide the request does not mention.

The second kind of reward that knows more than the request and says it (`linted.py` is the first):
an editor. The request asks for a text that uses three given words. The reward is half those words
and half six rules of a plain-language guide, each broken one told as what to
change and where; the score is the words and twelve rules, of which no method sees the last six.
"""

import random
import re
from collections.abc import Callable
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
_LONGEST_SENTENCE, _LONGEST_WORD = 18, 11

Rule = Callable[[str], str]
"""A rule of the guide: what is wrong with a text and where, or ""."""


def sentences(text: str) -> list[str]:
    """The sentences: runs of text closed by a full stop, ! or ?, by a line's end, or by the end."""
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n+", text) if part.strip()]


def _long_sentence(text: str) -> str:
    for sentence in sentences(text):
        if (length := len(words(sentence))) > _LONGEST_SENTENCE:
            return f"Split this sentence, it has {length} words: {sentence}"
    return ""


def _passive(text: str) -> str:
    found = _PASSIVE.search(text)
    return f'Do not write "{found[0]}" (passive voice): say who does it.' if found else ""


def _vague(text: str) -> str:
    found = sorted(_VAGUE & set(words(text)))
    return f"Leave out the vague words: {', '.join(found)}." if found else ""


def _no_reader(text: str) -> str:
    return "" if "you" in words(text) else 'Speak to the reader: use the word "you".'


def _no_question(text: str) -> str:
    first = (sentences(text) or [""])[0]
    return "" if first.endswith("?") else "Begin with a question that a reader would ask."


def _no_tip(text: str) -> str:
    last = text.strip().rpartition("\n")[2]
    return (
        ""
        if last.startswith("Tip:")
        else 'End with a tip for the reader, on a line of its own that begins with "Tip:".'
    )


def _long_word(text: str) -> str:
    return "-" if any(len(word) > _LONGEST_WORD for word in words(text)) else ""


def _connective(text: str) -> str:
    opening = (
        r"(?m)(?:^|[.!?]\s+)(?:additionally|moreover|furthermore|however|overall|in conclusion)\b"
    )
    return "-" if re.search(opening, text.lower()) else ""


def _empty_opening(text: str) -> str:
    return "-" if re.search(r"(?:^|[.!?]\s+)(?:There|It) (?:is|are)\b", text) else ""


def _adverbs(text: str) -> str:
    return "-" if sum(word.endswith("ly") for word in words(text)) > 2 else ""


def _brackets(text: str) -> str:
    return "-" if re.search(r"[();]", text) else ""


def _length(text: str) -> str:
    return "" if 50 <= len(words(text)) <= 150 else "-"


SEEN: tuple[Rule, ...] = (_long_sentence, _passive, _vague, _no_reader, _no_question, _no_tip)
ALL: tuple[Rule, ...] = (
    *SEEN, _long_word, _connective, _empty_opening, _adverbs, _brackets, _length,
)  # fmt: skip


def load() -> list[Task]:
    """All tasks of the family, the same ones always."""
    return [_task(number, topic) for number, topic in enumerate(TOPICS)]


def _task(number: int, topic: str) -> Task:
    wanted = random.Random(number).sample(_WORDS, 3)

    def missing(answer: str) -> list[str]:
        found = set(words(answer))
        return [word for word in wanted if word not in found]

    def value(answer: str, broken: int, rules: int) -> float:
        kept = 1 - len(missing(answer)) / len(wanted)
        return (kept + 1 - broken / rules) / 2 if answer.strip() else 0.0

    @lru_cache(maxsize=4096)
    def reward(answer: str) -> Score:
        told = [reason for rule in SEEN if (reason := rule(answer))]
        absent = [f'Use the word "{word}".' for word in missing(answer)]
        return Score(value(answer, len(told), len(SEEN)), "\n".join([*absent, *told]))

    def score(answer: str) -> float:
        return value(answer, sum(bool(rule(answer)) for rule in ALL), len(ALL))

    request = (
        f"Write a short text of about 100 words for our readers that explains {topic}. "
        f'Use the words "{wanted[0]}", "{wanted[1]}" and "{wanted[2]}".'
    )
    return Task(f"styled/{number}", request, reward, score)
