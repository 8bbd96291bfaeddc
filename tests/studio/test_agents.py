"""Agents on the real LangGraph Server: in every stream the answer is one message with one id."""

from pathlib import Path
from typing import Any

import pytest

from tests.studio.server import StudioServer

AGENTS = """
from langchain.agents import create_agent
from langgraph.graph import START, MessagesState, StateGraph

from tpo_graph import create_tpo_graph
from tpo_graph.agents.chat_model import ChatTPO
from tpo_graph.agents.middleware import TPOMiddleware
from tpo_graph.testing import ScriptedChatModel, prefer_longer

SMALL = {"reward_model": prefer_longer, "width": 2, "depth": 1}
middleware = create_agent(ScriptedChatModel(), middleware=[TPOMiddleware(**SMALL)])
chat = create_agent(ChatTPO(model=ScriptedChatModel(), **SMALL))
builder = StateGraph(MessagesState).add_edge(START, "tpo")
node = builder.add_node("tpo", create_tpo_graph(ScriptedChatModel(), prefer_longer)).compile()
"""
QUERY: Any = {"messages": [{"role": "user", "content": "Say hello."}]}


@pytest.mark.slow
def test_the_answer_is_one_message_in_every_stream(tmp_path: Path) -> None:
    (tmp_path / "agents.py").write_text(AGENTS, encoding="utf-8")
    names = ("middleware", "chat", "node")
    graphs = {name: f"./agents.py:{name}" for name in names}
    modes: Any = ["messages-tuple", "updates", "values"]
    with (
        StudioServer(tmp_path, {}, graphs=graphs, checkpointer=None) as server,
        server.client() as client,
    ):
        for name in names:
            for subgraphs in (False, True):
                thread = client.threads.create()["thread_id"]
                parts = list(
                    client.runs.stream(
                        thread, name, input=QUERY, stream_mode=modes, stream_subgraphs=subgraphs
                    )
                )
                state: Any = client.threads.get_state(thread)["values"]
                answer = state["messages"][-1]
                assert not [part for part in parts if part.event == "error"]
                shown = [p.data for p in parts if p.event.startswith("messages")]
                others = [p.data for p in parts if not p.event.startswith("messages")]
                assert [message["id"] for message, _ in shown] == [answer["id"]], name
                answers = [m for m in said(others) if m["content"] == answer["content"]]
                assert {(m["id"], m["type"]) for m in answers} == {(answer["id"], "ai")}, name


def said(data: Any) -> list[dict[str, Any]]:
    """The messages of a part of the stream."""
    if isinstance(data, list):
        return [message for part in data for message in said(part)]
    if isinstance(data, dict):
        whole = {"content", "id"} <= data.keys()
        return [data] if whole else [m for part in data.values() for m in said(part)]
    return []
