"""TPO as a node of a graph whose state is not a list of messages.

A graph with `messages` in its state needs none of this: `builder.add_node("refine", graph)`.
"""

from typing import Any, cast

from langchain_core.messages import AnyMessage
from langchain_core.runnables import Runnable, RunnableLambda
from langgraph.graph.state import CompiledStateGraph

from tpo_graph.conversation import as_messages
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
        query: the field with the question, or with a message or a conversation of LangChain.
        answer: the field that takes the text of the answer.

    Raises:
        ConfigurationError: `graph` is none, or has a checkpointer of its own (when it is made).
        KeyError, AttributeError: the parent's state has no such field (when the node runs).
        ConfigurationError: what is in it is no question.
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
        try:
            messages = as_messages(_field(state, query))
        except ConfigurationError as error:
            raise ConfigurationError(f"the field {query!r} of the state: {error}") from error
        return TPOInput(messages=cast("list[AnyMessage]", messages))

    def read(state: TPOState) -> dict[str, str]:
        return {answer: state["messages"][-1].text}

    # A sequence, not a function that calls the graph: this is where LangGraph looks for subgraphs.
    return RunnableLambda(ask, name="ask") | graph | RunnableLambda(read, name="answer")


def _field(state: Any, name: str) -> Any:
    if not isinstance(state, dict):
        return getattr(state, name)
    fields = cast("dict[str, Any]", state)
    if name not in fields:
        raise KeyError(
            f"nothing has written the field {name!r} of the state, which has {sorted(fields)!r}. "
            "tpo_node(graph, query=...) names the field with the question."
        )
    return fields[name]
