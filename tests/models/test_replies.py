import re
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from tpo_graph.models.replies import Reply, Unusable, parse_reply, read_reply

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
        ("<improved>a</improved> and <improved>b</improved>", TAG, "b"),
        ("I use <improved> and </improved>.\n<improved>x</improved>", TAG, "x"),
        ("In <improved> tags:\n<improved>x</improved>", TAG, "x"),
        ("<improved>x</improved> I put it between <improved> and </improved>.", TAG, "x"),
        ("It goes between <improved> and </improved>.", TAG, None),
        (
            "<improved>in <improved>x</improved> twice</improved>",
            TAG,
            "in <improved>x</improved> twice",
        ),
        (
            "<improved>the tag </improved> closes it</improved>",
            TAG,
            "the tag </improved> closes it",
        ),
        ("<improved>x</improved>\n</improved>", TAG, "x"),
        ("<Improved>x</Improved>", TAG, "x"),
        ("<improved>cut sho", TAG, "cut sho"),
        ("</improved> early <improved>late", TAG, "late"),
        ("<improved> </improved>", TAG, None),
        ("no tag", TAG, None),
        ("<think><improved>draft</improved></think><improved>x</improved>", TAG, "x"),
        ("<think><improved>draft</improved>", TAG, None),
        ("thoughts</think>answer", None, "answer"),
        ("a </think> b\n</think>\n\nanswer", None, "answer"),
        ("</think>answer", None, "answer"),
        ("the `</think>` mark", None, "the `</think>` mark"),
        ("thoughts [/THINK] answer", None, "answer"),
        ("[THINK]a[/THINK]b", None, "b"),
        ("<|channel|>analysis<|message|>a<|end|><|channel|>final<|message|>b", None, "b"),
        ("analysisWe greet.assistantfinalHello", None, "Hello"),
        ("analysis of the data", None, "analysis of the data"),
        ("use <improved> </improved>\n</think>\n<improved>x</improved>", TAG, "x"),
        ("<improved>the mark </think> ends it</improved>", TAG, "the mark </think> ends it"),
        ("<improved>draft</improved></think>done", TAG, None),
        ("<improved>x</improved>\n</think>\n", TAG, "x"),
        ("thoughts\n<improved>x</improved></think>", TAG, "x"),
        ("<think><improved>draft</improved></think>", TAG, None),
        ("thoughts</think><improved>x</improved></think>", TAG, "x"),
        ("no tag</think>", TAG, None),
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
            assert found in re.sub("[\0\ud800-\udfff]", "\ufffd", text)


@given(st.text(), hostile, st.text())
def test_a_tagged_text_survives_what_surrounds_it(before: str, text: str, after: str) -> None:
    clean = re.sub("</?improved>|</?think>", "", text) + " some words"  # not a mere mention of tags
    expected = parse_reply(clean)
    assume(not re.search("(?i)think|thought|channel|analysis", before + clean + after))
    assume("improved>" not in (before + after).lower())  # a pair of its own
    assert parse_reply(f"a{before}<improved>{clean}</improved>{after}", TAG) == expected


@pytest.mark.parametrize("piece", ["<think>", "<improved>", "</improved>", "<", "<think></think>"])
def test_long_hostile_replies_are_parsed_at_once(piece: str) -> None:
    started = time.perf_counter()
    parse_reply(piece * (1_000_000 // len(piece)), TAG)
    assert time.perf_counter() - started < 0.5


LONG = "A rewrite of a fair length that says all it has to say."


@pytest.mark.parametrize(
    ("text", "finish", "expected"),
    [
        ("<improved>whole</improved> and mo", "length", Reply("whole", closed=True)),
        ("<improved>not closed", "stop", Reply("not closed", salvaged=True)),
        ("<improved>not clo", "length", "cut"),
        ("between <improved> and </improved>: <improved>not clo", "length", "cut"),
        ("<think>on and on", "length", "cut"),
        ("<think>on and on", "stop", "empty"),
        (LONG, "stop", Reply(LONG, salvaged=True)),
        (LONG, "length", "cut"),
        (LONG, None, "no tag"),
        ("Too short.", "stop", "no tag"),
        (f"{LONG[:9]}</improved>", "stop", Reply(LONG[:9], salvaged=True)),
        (f"```markdown\n{LONG}\n```", "stop", Reply(LONG, salvaged=True)),
        ("```python\nx = 1\n```", "stop", Reply("```python\nx = 1\n```", salvaged=True)),
        (f"Sure! {LONG}", "stop", "no tag"),
        (f"Rewritten for you:\n{LONG}", "stop", "no tag"),
        (f"<conversation>\n{LONG}", "stop", "no tag"),
        (f"{LONG} This is the improved one.", "stop", "no tag"),
    ],
)
def test_a_reply_without_its_tag_is_used_only_when_it_is_whole_and_nothing_else(
    text: str, finish: str | None, expected: Reply | str
) -> None:
    found = read_reply(AIMessage(text), TAG, finish)
    assert found == (Unusable(text, expected) if isinstance(expected, str) else expected)  # type: ignore[arg-type]


def test_reasoning_that_was_cut_is_no_answer_of_a_model_known_to_leave_the_opening_out() -> None:
    thoughts = AIMessage("I wonder what")
    assert read_reply(thoughts, None, "length") == Reply("I wonder what")
    assert read_reply(thoughts, None, "length", bare_reasoning=True) == Unusable(
        "I wonder what", "cut"
    )
    assert read_reply(thoughts, None, "stop", bare_reasoning=True) == Reply("I wonder what")


def test_only_text_blocks_count() -> None:
    blocks = [
        {"type": "reasoning", "reasoning": "secret"},
        {"type": "text", "text": "a "},
        {"type": "text", "text": "b"},
    ]
    assert read_reply(AIMessage(content=blocks)) == Reply("a b")


def test_a_refusal_is_the_reply_unless_a_tag_is_needed() -> None:
    refusal = AIMessage(content="", additional_kwargs={"refusal": "I must not."})
    assert read_reply(refusal) == Reply("I must not.")
    assert read_reply(refusal, TAG) == Unusable("", "empty")
    nothing = AIMessage(content="", additional_kwargs={"refusal": None})
    assert read_reply(nothing) == Unusable("", "empty")
