"""TPO as a node of your own graph: it resumes inside, and its steps can be watched. Offline.

python examples/subgraph.py
"""

from typing import TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

from tpo_graph import create_tpo_graph, tpo_node
from tpo_graph.testing import ScriptedChatModel, prefer_longer


class Letter(TypedDict, total=False):
    topic: str
    question: str
    draft: str


tpo = create_tpo_graph(ScriptedChatModel(), prefer_longer, defaults={"depth": 1, "width": 3})
builder = StateGraph(Letter)
builder.add_node("ask", lambda state: {"question": f"Write a line about {state['topic']}."})
builder.add_node("refine", tpo_node(tpo, query="question", answer="draft"))
builder.add_edge(START, "ask")
builder.add_edge("ask", "refine")
graph = builder.compile(checkpointer=InMemorySaver())  # the parent's: TPO's steps are in it too

config = {"configurable": {"thread_id": "letter-1"}}
for path, update in graph.stream({"topic": "tea"}, config, subgraphs=True):
    name = path[0].split(":")[0] + "/" if path else ""
    print(*(f"{name}{node}" for node in update))
print(graph.get_state(config).values["draft"])
