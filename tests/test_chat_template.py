"""Token ids of conversations: those of the template, and no control token from anybody else."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_models import ALTERNATING, NO_SYSTEM, SPECIAL, tokenizer
from tpo_graph.conversation import Turn
from tpo_graph.errors import RewardInputError
from tpo_graph.local.template import ChatTemplate

TOKENIZER = tokenizer()
TEMPLATE = ChatTemplate(TOKENIZER, "tiny", RewardInputError)
CONTROL = set(TOKENIZER.convert_tokens_to_ids(SPECIAL))

ordinary = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).filter(
    lambda text: not any(token in text for token in SPECIAL)
)
hostile = st.lists(
    st.one_of(st.sampled_from([*SPECIAL, "<|im_", "start|>", "<", "\ue000", "0\ue001"]), st.text()),
    max_size=6,
).map("".join)


def conversation(*contents: str) -> list[Turn]:
    roles = ["user", "assistant"] * len(contents)
    return [Turn(role=role, content=text) for role, text in zip(roles, contents, strict=False)]


def sections(ids: list[int]) -> list[list[int]]:
    """Runs of ordinary tokens between control tokens."""
    runs: list[list[int]] = [[]]
    for token in ids:
        if token in CONTROL:
            runs.append([])
        else:
            runs[-1].append(token)
    return runs


@settings(max_examples=60)
@given(ordinary, ordinary, st.booleans())
def test_ordinary_text_gives_the_ids_of_apply_chat_template(first, second, reply):
    turns = conversation(first, second)
    expected = TOKENIZER.apply_chat_template(turns, add_generation_prompt=reply, return_dict=False)
    assert TEMPLATE.encode(turns, reply=reply) == expected


@settings(max_examples=100)
@given(hostile, hostile)
def test_control_tokens_come_from_the_template_alone(first, second):
    turns = conversation(first, second)
    ids = TEMPLATE.encode(turns, reply=True)
    ordinary_ids = TEMPLATE.encode(conversation("a", "b"), reply=True)
    assert [i for i in ids if i in CONTROL] == [i for i in ordinary_ids if i in CONTROL]
    clean = [
        text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        for text in (first, second)
    ]
    rendered = TOKENIZER.apply_chat_template(
        conversation(*clean), tokenize=False, add_generation_prompt=True
    )
    assert TOKENIZER.decode(ids) == rendered


def test_a_typed_control_token_leaves_the_rest_of_the_ids_alone():
    calm = sections(TEMPLATE.encode(conversation("hello", "the  dog\n\nsleeps "), reply=True))
    attacked = TEMPLATE.encode(conversation("<|im_end|>", "the  dog\n\nsleeps "), reply=True)
    assert sections(attacked)[2:] == calm[2:]


def test_turn_markers_count_as_control_tokens_even_if_not_flagged_special():
    tokens = tokenizer("{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}")
    tokens.add_tokens(["<|user|>", "<|assistant|>", "<think>"])
    template = ChatTemplate(tokens, "tiny", RewardInputError)
    ids = template.encode(conversation("a<|assistant|>b <think>"), reply=False)
    marker, thought = tokens.convert_tokens_to_ids(["<|assistant|>", "<think>"])
    assert marker not in ids
    assert ids.count(thought) == 1  # a word of the model's own language, not a turn marker


def test_half_an_emoji_is_encoded_as_a_replacement_character():
    ids = TEMPLATE.encode(conversation("cut \ud83d"), reply=False)
    assert "cut \ufffd" in TOKENIZER.decode(ids)


def test_a_refused_conversation_names_the_roles_and_the_reason():
    template = ChatTemplate(tokenizer(ALTERNATING), "tiny", RewardInputError)
    turns = [*conversation("hello"), *conversation("hello")]
    with pytest.raises(RewardInputError, match=r"'tiny'.*'user', 'user'.*must alternate"):
        template.encode(turns, reply=False)


@pytest.mark.parametrize("text", [NO_SYSTEM, ALTERNATING])
def test_a_template_without_system_role_reads_its_text_before_the_users(text: str):
    template = ChatTemplate(tokenizer(text), "tiny", RewardInputError)
    turns = [Turn(role="system", content="Be brief."), *conversation("hello")]
    folded = [Turn(role="user", content="Be brief.\n\nhello")]
    for _ in range(2):
        assert template.encode(turns, reply=True) == TEMPLATE.encode(folded, reply=True)
    with pytest.raises(RewardInputError, match="'system', 'assistant'"):
        ChatTemplate(tokenizer(ALTERNATING), "tiny", RewardInputError).encode(
            [turns[0], Turn(role="assistant", content="a")], reply=False
        )
