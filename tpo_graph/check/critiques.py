"""Critiques whose effect a program can see, for checking whether a policy follows them."""

import re
from collections.abc import Callable
from typing import NamedTuple


class Critique(NamedTuple):
    """A comparison already made, and the instructions that came of it."""

    query: str
    chosen: str
    rejected: str
    loss: str
    gradient: str
    followed: Callable[[str], bool]
    """Whether a rewritten answer did what the gradient asks."""


def _starts_with_canberra(answer: str) -> bool:
    return answer.lstrip(' *_#"').startswith("Canberra")


def _is_numbered(answer: str) -> bool:
    return all(re.search(rf"^\W*{number}[.)]", answer, re.MULTILINE) for number in (1, 2))


def _ends_with_a_question(answer: str) -> bool:
    return answer.rstrip(' *_"').endswith("?")


CRITIQUES = (
    Critique(
        "What is the capital of Australia, and why is it not Sydney?",
        "The capital of Australia is Canberra. It was founded as a compromise, because both Sydney "
        "and Melbourne wanted to be the capital.",
        "Sydney is the capital of Australia.",
        "The chosen answer is right and gives the reason; the rejected one is wrong. The chosen "
        "answer does not put the name first, where a reader looks for it.",
        '1. Let the answer begin with the word "Canberra".\n2. Keep the reason.',
        _starts_with_canberra,
    ),
    Critique(
        "How do I boil an egg?",
        "Bring water to a boil, lower the egg into it, wait eight minutes, and cool the egg under "
        "cold water.",
        "Just boil it.",
        "The chosen answer names every step and a time; the rejected one helps nobody. The chosen "
        "answer runs its steps together, which is hard to follow at the stove.",
        "1. Write the steps as a numbered list (1., 2., 3., ...), one step per line.",
        _is_numbered,
    ),
    Critique(
        "Can you recommend a book about the sea?",
        "Moby-Dick by Herman Melville is a famous novel about a captain who hunts a white whale.",
        "There are many books.",
        "The chosen answer names a book and says what it is about; the rejected one names none. "
        "The chosen answer does not find out what the reader likes.",
        "1. Keep the recommendation.\n2. End with a question to the reader about what they like.",
        _ends_with_a_question,
    ),
)
