"""The word-level diff: nothing is lost, words stay whole, and no text takes long."""

import time

from hypothesis import given
from hypothesis import strategies as st

from tpo_graph.report.diff import compare

TEXTS = st.text(st.sampled_from("ab .,\n(é漢字\u202e"), max_size=60)


def joined(pieces: list[tuple[str, str]], *kinds: str) -> str:
    return "".join(text for kind, text in pieces if kind in kinds)


@given(TEXTS, TEXTS)
def test_both_texts_can_be_read_back(before: str, after: str):
    pieces = compare(before, after)
    assert joined(pieces, "same", "removed") == before
    assert joined(pieces, "same", "added") == after
    assert all(piece.text for piece in pieces)


def test_words_are_replaced_whole_and_neighbours_together():
    assert compare("The cat sat down, then.", "The small dog sat down.") == [
        ("same", "The "),
        ("removed", "cat"),
        ("added", "small dog"),
        ("same", " sat down"),
        ("removed", ", then"),
        ("same", "."),
    ]
    # A script without spaces goes by the character.
    assert [piece.text for piece in compare("我喜欢猫", "我喜欢狗")] == ["我喜欢", "猫", "狗"]
    assert compare("same", "same") == [("same", "same")]
    assert compare("", "") == []


def test_long_texts_are_compared_by_the_line_and_then_as_a_whole():
    lines = [f"line {number} of the text with some words\n" for number in range(1_000)]
    changed = ["a new beginning\n", *lines[:-1], "another end\n"]
    pieces = compare("".join(lines), "".join(changed))
    assert ("added", "a new beginning\n") in pieces
    assert joined(pieces, "same").count("line") == 999
    begin = time.process_time()
    pieces = compare("x\n" + "a b " * 25_000, "y\n" + "b a " * 25_000)
    assert joined(pieces, "same", "added").startswith("y\nb a b a")
    assert time.process_time() - begin < 5
