"""The run that docs/studio.md shows: what it prints is what a person sees there."""

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import BaseMessage
from langgraph.checkpoint.memory import InMemorySaver

from tpo_graph import create_tpo_graph
from tpo_graph.testing import ScriptedChatModel, prefer_longer

QUERY: Any = {"messages": [{"role": "user", "content": "Decline an invitation for me.", "id": "q"}]}
REPLIES = [
    "No.",
    "Thank you, but I can't come.",
    "The chosen answer is polite; the rejected one is curt and could hurt.",
    "Keep the thanks. Give a reason, and wish them a nice evening.",
    "<improved_answer>Thank you! I am away that day. Have a lovely evening.</improved_answer>",
    "<improved_answer>Thanks, but I am away. Enjoy your evening!</improved_answer>",
]


def steps() -> list[tuple[str, Any]]:
    """(node, what it changed) of the whole run."""
    parts = _graph().stream(QUERY, _thread(), context=_CONTEXT, stream_mode="updates")
    return [(node, plain(change)) for part in parts for node, change in part.items()]


def state_after(node: str) -> Any:
    """The whole state after the first time that `node` ran."""
    graph, thread = _graph(), _thread()
    graph.invoke(QUERY, thread, context=_CONTEXT, interrupt_after=[node])
    return plain(graph.get_state(thread).values)


def question() -> Any:
    """What a person is asked first."""
    out = _graph().invoke(QUERY, _thread(), context={**_CONTEXT, "interrupt_at": ["select"]})
    return plain(out["__interrupt__"][0].value)


_CONTEXT = {"width": 2, "depth": 1}


def _graph() -> Any:
    model = ScriptedChatModel(replies=REPLIES)
    return create_tpo_graph(model, prefer_longer, checkpointer=InMemorySaver())


def _thread() -> Any:
    return {"configurable": {"thread_id": "t", "tpo_run_id": "3f2a"}}


def plain(value: Any) -> Any:
    """As the server writes it, but with every duration the same."""
    if isinstance(value, BaseMessage):
        return plain(value.model_dump())
    if isinstance(value, Mapping):
        return {k: 0.02 if k == "seconds" else plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value
