"""TPO as a node of a graph whose state is not a list of messages.

A graph with `messages` in its state needs none of this: `builder.add_node("refine", graph)`.
"""

from typing import Any, cast

from langchain_core.messages import HumanMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.graph.state import CompiledStateGraph

from tpo_graph.errors import ConfigurationError
from tpo_graph.graph import TPOGraph
from tpo_graph.state import TPOInput, TPOState


def tpo_node(
    graph: TPOGraph, *, query: str = "question", answer: str = "draft"
) -> Runnable[Any, dict[str, str]]:
    """The graph as a node that reads one field of its parent's state and writes another.

    It stays a subgraph: the parent's checkpointer holds its steps, a resume continues inside it,
    and `stream(subgraphs=True)` shows its nodes.

    Args:
        graph: from `create_tpo_graph`, compiled without a checkpointer of its own.
        query: the field with the question, or with a conversation as LangChain messages.
        answer: the field that takes the text of the answer.

    Raises:
        ConfigurationError: `graph` is none, or has a checkpointer of its own (when it is made).
        KeyError, AttributeError: the parent's state has no such field (when the node runs).
    """

    if not isinstance(graph, CompiledStateGraph):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigurationError(
            f"not a graph: {graph!r:.200}. Give what create_tpo_graph returns."
        )
    if graph.checkpointer:
        raise ConfigurationError(
            "this graph has a checkpointer of its own, and its parent's keeps a node's steps: "
            "make it with create_tpo_graph(..., checkpointer=None)."
        )

    def ask(state: Any) -> TPOInput:
        asked = _field(state, query)
        return TPOInput(messages=[HumanMessage(asked)] if isinstance(asked, str) else [*asked])

    def read(state: TPOState) -> dict[str, str]:
        return {answer: state["messages"][-1].text}

    # A sequence, not a function that calls the graph: this is where LangGraph looks for subgraphs.
    return RunnableLambda(ask, name="ask") | graph | RunnableLambda(read, name="answer")


def _field(state: Any, name: str) -> Any:
    return cast("dict[str, Any]", state)[name] if isinstance(state, dict) else getattr(state, name)
