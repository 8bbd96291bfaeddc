"""What changed from one text to another, word by word."""

import re
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

_WORDS: re.Pattern[str] = re.compile(
    # Scripts written without spaces go character by character.
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]"
    r'|[.,;:!?()\[\]"]|\s+|[^\s.,;:!?()\[\]"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff'
    r"\u3040-\u30ff\u3400-\u9fff]+"
)
_MOST = 20_000
"""Words and spaces (then lines) that are compared: matching takes quadratic time at worst."""


class Piece(NamedTuple):
    """A stretch of text that stayed, went or came."""

    kind: Literal["same", "removed", "added"]
    text: str


def compare(before: str, after: str) -> list[Piece]:
    """The pieces of both texts in order; a removed piece stands before what replaced it.

    Texts of more than 20,000 words and spaces are compared line by line, those of more lines as
    a whole, apart from how they begin and end.
    """
    old: list[str] = _WORDS.findall(before)
    new: list[str] = _WORDS.findall(after)
    begin = _common(old, new)
    end = _common(old[begin:][::-1], new[begin:][::-1])
    head, tail = "".join(old[:begin]), "".join(old[len(old) - end :])
    old, new = old[begin : len(old) - end], new[begin : len(new) - end]
    if max(len(old), len(new)) > _MOST:
        old, new = _lines(old), _lines(new)
    pieces = [Piece("same", head)]
    if max(len(old), len(new)) > _MOST:
        pieces += [Piece("removed", "".join(old)), Piece("added", "".join(new))]
    else:
        pieces += _matched(old, new)
    pieces.append(Piece("same", tail))
    return [piece for piece in pieces if piece.text]


def _lines(words: list[str]) -> list[str]:
    return "".join(words).splitlines(keepends=True)


def _common(one: list[str], other: list[str]) -> int:
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _matched(old: list[str], new: list[str]) -> list[Piece]:
    pieces: list[Piece] = []
    removed = added = ""
    for tag, i, j, k, m in SequenceMatcher(None, old, new).get_opcodes():
        gone, come = "".join(old[i:j]), "".join(new[k:m])
        # A lone space between two changes would cut them into confetti.
        if tag != "equal" or (gone.isspace() and (removed or added) and j < len(old)):
            removed, added = removed + gone, added + come
            continue
        pieces += [Piece("removed", removed), Piece("added", added), Piece("same", gone)]
        removed = added = ""
    return [*pieces, Piece("removed", removed), Piece("added", added)]
