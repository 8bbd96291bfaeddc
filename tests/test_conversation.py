"""What of a conversation reaches the policy, the reward model and the critic, and in which form."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from tpo_graph import create_tpo_graph, optimize
from tpo_graph.conversation import as_messages, turns, without_tools
from tpo_graph.errors import ConfigurationError
from tpo_graph.testing import ScriptedChatModel, prefer_longer

PICTURE = {
    "type": "image_url",
    "image_url": {"url": "data:image/png;base64,iVBORw0KGgo" + "A" * 99},
}
SOUND = {"type": "audio", "base64": "A" * 99, "mime_type": "audio/wav"}


def call(name: str, number: int) -> dict[str, Any]:
    return {"name": name, "args": {"n": number}, "id": f"{name}{number}"}


TOOLS: list[BaseMessage] = [
    HumanMessage("Compare two cities."),
    AIMessage("", tool_calls=[call("look", 1), call("look", 2)]),
    ToolMessage("warm", tool_call_id="look1", name="look"),
    ToolMessage("cold", tool_call_id="look2", name="look"),
]


@pytest.mark.parametrize(
    "query",
    [
        [{"role": "user", "content": "Hello?"}],
        [("user", "Hello?")],
        ["Hello?"],
        [HumanMessage("Hello?")],
        "Hello?",
        HumanMessage("Hello?"),
        {"role": "user", "content": "Hello?"},
    ],
)
def test_any_form_of_a_conversation_is_taken(query: Any):
    assert [(m.type, m.text) for m in as_messages(query)] == [("human", "Hello?")]
    model = ScriptedChatModel()
    result = optimize(query, model=model, reward_model=prefer_longer, depth=0, width=1)
    assert result.response == "Answer (0)"


@pytest.mark.parametrize(
    "query",
    [[3], [{"text": "no role"}], [{"role": "user"}], [None], [[]], {"messages": [("user", "Hi.")]}],
)
def test_what_is_no_conversation_is_one_clear_error(query: Any):
    with pytest.raises(ConfigurationError, match="not a conversation"):
        as_messages(query)


def test_results_of_tools_called_at_once_are_one_turn():
    assert [turn["role"] for turn in turns(TOOLS)] == ["user", "assistant", "user"]
    told = turns(TOOLS)[-1]
    assert told["content"] == "Result of look: warm\n\nResult of look: cold"
    assert told["tool"] == "look"
    sent = without_tools([*TOOLS, HumanMessage("Well?")])
    assert [message.type for message in sent] == ["human", "ai", "human"]
    assert sent[-1].text.endswith("Result of look: cold\n\nWell?")
    assert "tool" not in turns([*TOOLS, HumanMessage("Well?")])[-1]


@given(st.lists(st.sampled_from(["user", "call", "result"]), max_size=12))
def test_what_a_tool_says_never_makes_two_user_turns_in_a_row(kinds: list[str]):
    made: list[BaseMessage] = []
    for kind in kinds:
        # As agents write it: a person speaks after an answer or a result, a model after either.
        if kind == "user" and (not made or made[-1].type != "human"):
            made.append(HumanMessage("Go on?"))
        elif kind == "call" and made and made[-1].type != "ai":
            made.append(AIMessage("", tool_calls=[call("look", 1)]))
        elif kind == "result" and made and made[-1].type in ("ai", "tool"):
            made.append(ToolMessage("it", tool_call_id="look1"))
    for roles in ([t["role"] for t in turns(made)], [m.type for m in without_tools(made)]):
        assert all(one != other for one, other in pairwise(roles))


def test_broken_tool_calls_are_put_into_words():
    broken = [
        AIMessage(
            "", invalid_tool_calls=[{"name": "look", "args": '{"n": ', "id": "1", "error": None}]
        ),
        AIMessage(
            "", additional_kwargs={"tool_calls": [{"function": {"name": "look", "arguments": "{"}}]}
        ),
    ]
    for message in broken:
        (sent,) = without_tools([message])
        assert sent.text.startswith("Called: look({")
        assert not sent.invalid_tool_calls
        assert not sent.additional_kwargs


@pytest.mark.parametrize("arguments", ['{"n": 1}', "", '{"n": ', "[1]", "null", "[" * 100_000])
def test_a_call_of_a_tool_in_openais_form(arguments: str):
    """Without content beside it, and with whatever the model wrote as its arguments."""
    function = {"name": "look", "arguments": arguments}
    asked: Any = [
        {"role": "user", "content": "Why?"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "Error: no JSON object."},
    ]
    messages = as_messages(asked)
    assert turns(messages)[1] == {"role": "assistant", "content": f"Called: look({arguments})"}
    assert [message.type for message in without_tools(messages)] == ["human", "ai", "human"]


def carried(block: Any, messages: Sequence[BaseMessage]) -> bool:
    return any(isinstance(m.content, list) and block in m.content for m in messages)


def test_pictures_reach_who_rewrites_and_are_words_to_everybody_else():
    asked: list[str] = []

    def reward(query: str, response: str) -> float:
        asked.append(query)
        return float(len(response))

    for content in ([{"type": "text", "text": "What is this?"}, PICTURE], [PICTURE], [SOUND]):
        model, critic = ScriptedChatModel(), ScriptedChatModel()
        query = [HumanMessage(content)]
        options: Any = {"reward_model": reward, "depth": 1, "width": 2}
        optimize(query, model=model, critic=critic, **options)
        updates = model.calls[1:]
        assert updates
        assert all(carried(content[-1], messages) for messages, _ in updates)
        words = [m.text for messages, _ in critic.calls for m in messages] + asked
        assert any("[image]" in text or "[audio]" in text for text in words)
        assert not any("AAAA" in text for text in words)
        # So it is where the policy is its own critic.
        alone = ScriptedChatModel()
        optimize(query, model=alone, **options)
        steps = [carried(content[-1], messages) for messages, _ in alone.calls]
        assert steps == [True, False, False, True]  # sample, loss, gradient, update


@pytest.mark.parametrize("text", ["half \ud83d", "both \ud83d\udc00 and \udc00"])
def test_characters_that_no_provider_takes_are_replaced_everywhere(text: str):
    model = ScriptedChatModel()
    graph = create_tpo_graph(model, prefer_longer, defaults={"depth": 1, "width": 2})
    blocks: Any = [{"type": "text", "text": text}]
    for messages in ([SystemMessage(text), HumanMessage(text)], [HumanMessage(blocks)]):
        graph.invoke({"messages": messages, "drafts": [text]})
    for messages, _ in model.calls:
        for message in messages:
            message.text.encode()


def test_a_draft_is_scored_without_its_thoughts():
    scored: list[str] = []

    def reward(query: str, response: str) -> float:
        scored.append(response)
        return 1.0

    graph = create_tpo_graph(ScriptedChatModel(), reward, defaults={"depth": 0, "width": 2})
    graph.invoke({"messages": [("user", "Hi")], "drafts": ["<think>Hm, hm.</think>Hello."]})
    assert scored[0] == "Hello."
