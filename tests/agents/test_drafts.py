"""Given responses as the first of the first samples, and tool use in the conversation."""

from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver

from tpo_graph import create_tpo_graph
from tpo_graph.testing import ScriptedChatModel, prefer_longer

QUERY: Any = [("user", "Say hello.")]


def samples_asked(model: ScriptedChatModel) -> list[int]:
    return [parameters["n"] for _, parameters in model.calls]


def test_drafts_are_the_first_of_the_first_samples_and_are_not_paid_for_again():
    model = ScriptedChatModel(replies=["short"])
    graph = create_tpo_graph(model, prefer_longer)
    given = {"messages": QUERY, "drafts": ["a much longer draft", "  "]}
    out = graph.invoke(given, context={"width": 4, "depth": 0})
    assert out["samples"] == ["a much longer draft", "short", "short", "short"]
    assert samples_asked(model) == [3]
    assert out["messages"][-1].text == "a much longer draft"
    assert (out["chosen"]["iteration"], out["chosen"]["position"]) == (0, 0)
    assert "drafts" not in out


def test_as_many_drafts_as_samples_need_no_policy_call():
    model = ScriptedChatModel()
    graph = create_tpo_graph(model, prefer_longer)
    given = {"messages": QUERY, "drafts": ["one", "two"]}
    out = graph.invoke(given, context={"width": 1, "depth": 0})
    assert out["samples"] == ["one", "two"]
    assert model.calls == []


def test_drafts_belong_to_one_run():
    model = ScriptedChatModel()
    graph = create_tpo_graph(model, prefer_longer, checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    context = {"width": 2, "depth": 0}
    graph.invoke({"messages": QUERY, "drafts": ["mine"]}, config, context=context)
    out = graph.invoke({"messages": [("user", "Again.")]}, config, context=context)
    assert samples_asked(model) == [1, 2]
    assert "mine" not in out["samples"]


def test_a_resume_still_knows_the_drafts():
    failing = {"now": True}

    def play(messages: Any, index: int) -> str:
        if failing.pop("now", False):
            raise ConnectionError("lost")
        return "sampled"

    graph = create_tpo_graph(
        ScriptedChatModel(replies=play), prefer_longer, checkpointer=InMemorySaver()
    )
    config: Any = {"configurable": {"thread_id": "t"}}
    context = {"width": 2, "depth": 0}
    try:
        graph.invoke({"messages": QUERY, "drafts": ["mine"]}, config, context=context)
    except Exception as error:
        assert "lost" in str(error)  # noqa: PT017
    out = graph.invoke(None, config, context=context)
    assert out["samples"] == ["mine", "sampled"]


CALL = {"name": "search", "args": {"q": "weather"}, "id": "1", "type": "tool_call"}
WITH_TOOLS = [
    HumanMessage("How is the weather?"),
    AIMessage("", tool_calls=[CALL]),
    ToolMessage("sunny", tool_call_id="1", name="search"),
]


def test_tool_use_reaches_policy_critic_and_reward_model_in_words():
    model = ScriptedChatModel()
    seen: list[Any] = []

    class Recorder:
        name = "recorder"

        async def score(self, conversation: Any, responses: Any) -> list[float]:
            seen.append([(turn["role"], turn["content"]) for turn in conversation])
            return [float(len(response)) for response in responses]

    graph = create_tpo_graph(model, Recorder())
    out = graph.invoke({"messages": WITH_TOOLS}, context={"width": 2, "depth": 1})
    words = [
        ("user", "How is the weather?"),
        ("assistant", 'Called: search({"q": "weather"})'),
        ("user", "Result of search: sunny"),
    ]
    assert seen[0] == words
    sampled = model.calls[0][0]
    assert [(type(m), m.text) for m in sampled] == [
        (HumanMessage, words[0][1]),
        (AIMessage, words[1][1]),
        (HumanMessage, words[2][1]),
    ]
    assert not any(isinstance(m, AIMessage) and m.tool_calls for m in sampled)
    assert "Result of search: sunny" in model.calls[1][0][-1].text
    assert out["messages"][:3] == WITH_TOOLS


def test_a_reward_function_is_given_the_question_not_the_tool_result():
    queries: set[str] = set()

    def reward(query: str, response: str) -> float:
        queries.add(query)
        return 0.0

    graph = create_tpo_graph(ScriptedChatModel(), reward)
    graph.invoke({"messages": WITH_TOOLS}, context={"width": 1, "depth": 0})
    assert queries == {"How is the weather?"}
