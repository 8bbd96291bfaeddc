"""Short requests with five requirements that a program checks: four make the reward, all the score.

Written for this bench, in the manner of IFEval (Zhou et al., 2023, arXiv 2311.07911) but with
answers of a few sentences, so that a slow server gets through them.
"""

import random
import re
from collections.abc import Callable

from benchmarks.real.tasks import Task
from tpo_graph.rewards import Score

TOPICS = (
    "why cats purr", "how bread rises", "what a glacier is", "how bees make honey",
    "why leaves turn red in autumn", "what a library is for", "how a bicycle stays upright",
    "why the sea is salty", "how to store potatoes", "what makes a good neighbour",
    "why we dream", "how a candle burns", "what tides are", "how to learn a poem by heart",
    "why onions make people cry", "how an umbrella is made", "what a village market is like",
    "how to water house plants", "why trains need rails", "what a lighthouse does",
    "how to pack a suitcase", "why ice floats", "how paper is made", "what a compass shows",
    "why birds sing", "how to clean a window", "what yeast is", "how a kite flies",
    "why metal rusts", "how to write a thank-you note", "what a sundial is", "why salt keeps food",
    "how to cross a river", "what fog is", "why children like stories", "how a lock works",
    "what a harbour is for", "how to make tea", "why wool is warm", "what an echo is",
)  # fmt: skip
_WORDS = ("water", "morning", "simple", "hands", "light", "people", "slowly", "winter")
_ENDS = ("That is all.", "Try it yourself.", "Nothing more is needed.", "So it goes.")

Check = Callable[[str], bool]


def sentences(text: str) -> int:
    """How many sentences there are: runs of text closed by a full stop, ! or ?, or by the end."""
    return len([part for part in re.split(r"[.!?]+(?:\s+|$)", text.strip()) if part.strip()])


def words(text: str) -> list[str]:
    """The words, in lower case."""
    return re.findall(r"[\w'’-]+", text.lower())


def _drawn(rng: random.Random) -> list[tuple[str, Check]]:
    count, limit = rng.randint(3, 5), rng.choice((45, 60, 75))
    word, other = rng.sample(_WORDS, 2)
    times, end, title = rng.randint(2, 3), rng.choice(_ENDS), rng.choice(("<<", "##"))
    closing = {"<<": ">>", "##": "##"}[title]

    def titled(text: str) -> bool:
        first = text.strip().split("\n", 1)[0].strip()
        return len(first) > 4 and first.startswith(title) and first.endswith(closing)

    def body(text: str) -> str:
        return text.strip().split("\n", 1)[-1] if titled(text) else text

    pool: list[tuple[str, Check]] = [
        (f"Write exactly {count} sentences.", lambda t: sentences(body(t)) == count),
        (f"Use at most {limit} words in all.", lambda t: len(words(t)) <= limit),
        (f'Use the word "{word}" at least {times} times.', lambda t: words(t).count(word) >= times),
        (f'Never use the word "{other}".', lambda t: other not in words(t)),
        (f'End with the exact words "{end}"', lambda t: t.strip().endswith(end)),
        (
            f"Begin with a title on a line of its own, between {title} and {closing}.",
            titled,
        ),
        ("Do not use any commas.", lambda t: "," not in t),
        ("Write one word in capital letters only.", _one_capital_word),
        ("Include one question.", lambda t: "?" in t),
        ("Put exactly one word between *asterisks*.", _one_emphasis),
    ]
    return rng.sample(pool, 5)


def _one_capital_word(text: str) -> bool:
    return len(re.findall(r"\b[A-Z]{2,}\b", text)) == 1


def _one_emphasis(text: str) -> bool:
    return len(re.findall(r"(?<!\*)\*[^*\s]+\*(?!\*)", text)) == 1


def load() -> list[Task]:
    """All tasks of the family, the same ones always."""
    return [_task(number, topic) for number, topic in enumerate(TOPICS)]


def _task(number: int, topic: str) -> Task:
    checks = _drawn(random.Random(number))
    seen = checks[:4]
    listed = "\n".join(f"- {text}" for text, _ in checks)

    def reward(answer: str) -> Score:
        unmet = [text for text, holds in seen if not holds(answer)]
        reason = f"Not met: {' '.join(unmet)}" if unmet else ""
        return Score(1 - len(unmet) / len(seen), reason)

    def score(answer: str) -> float:
        return sum(holds(answer) for _, holds in checks) / len(checks)

    request = f"Explain {topic}. Keep to all of these requirements:\n{listed}"
    return Task(f"requirements/{number}", request, reward, score)
