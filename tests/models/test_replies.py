import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from tpo_graph.models.replies import parse_reply, usable_text

TAG = "improved"


@pytest.mark.parametrize(
    ("text", "tag", "expected"),
    [
        ("plain", None, "plain"),
        ("  spaced \n", None, "spaced"),
        ("", None, None),
        (" \n\t", None, None),
        ("<think>hm</think>answer", None, "answer"),
        ("\n<think>a</think>\n<think>b</think>\nanswer", None, "answer"),
        ("<think>never ends", None, None),
        ("<think>only this</think>", None, None),
        ("in the middle <think>stays</think>", None, "in the middle <think>stays</think>"),
        ("noise <improved> x </improved> noise", TAG, "x"),
        ("<improved>a</improved> and <improved>b</improved>", TAG, "a</improved> and <improved>b"),
        ("<improved>cut sho", TAG, "cut sho"),
        ("</improved> early <improved>late", TAG, "late"),
        ("<improved> </improved>", TAG, None),
        ("no tag", TAG, None),
        ("<think><improved>draft</improved></think><improved>x</improved>", TAG, "x"),
        ("<think><improved>draft</improved>", TAG, None),
        ("null \0 and \ud800", None, "null \ufffd and \ufffd"),
    ],
)
def test_what_is_used_of_a_reply(text: str, tag: str | None, expected: str | None) -> None:
    assert parse_reply(text, tag) == expected


pieces = st.sampled_from(
    ["<think>", "</think>", "<improved>", "</improved>", "{x}", "<SEP>", "\\1", " ", "\n", "é"]
)
hostile = st.lists(pieces | st.text(), max_size=12).map("".join)


@given(hostile)
def test_text_is_only_ever_cut_at_its_ends(text: str) -> None:
    for tag in (None, TAG):
        found = parse_reply(text, tag)
        if found is not None:
            assert found
            assert found == found.strip()
            assert found in parse_reply("." + text, None)  # the same clean-up, nothing stripped


@given(st.text(), hostile, st.text())
def test_a_tagged_text_survives_what_surrounds_it(before: str, text: str, after: str) -> None:
    clean = text.replace("<improved>", "").replace("<think>", "")
    reply = f"a{before}<improved>{clean}</improved>{after}"
    expected = parse_reply("." + clean + ".")[1:-1].strip()
    assert parse_reply(reply, TAG) == (expected or None)


@pytest.mark.parametrize("piece", ["<think>", "<improved>", "</improved>", "<", "<think></think>"])
def test_long_hostile_replies_are_parsed_at_once(piece: str) -> None:
    started = time.perf_counter()
    parse_reply(piece * (1_000_000 // len(piece)), TAG)
    assert time.perf_counter() - started < 0.5


def test_only_text_blocks_count() -> None:
    blocks = [
        {"type": "reasoning", "reasoning": "secret"},
        {"type": "text", "text": "a "},
        {"type": "text", "text": "b"},
    ]
    assert usable_text(AIMessage(content=blocks)) == "a b"


def test_a_refusal_is_the_reply_unless_a_tag_is_needed() -> None:
    refusal = AIMessage(content="", additional_kwargs={"refusal": "I must not."})
    assert usable_text(refusal) == "I must not."
    assert usable_text(refusal, TAG) is None
    assert usable_text(AIMessage(content="", additional_kwargs={"refusal": None})) is None
