"""A person chooses which answers the critic compares, and rewrites its instructions."""

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tpo_graph import create_tpo_graph
from tpo_graph.testing import ScriptedChatModel, prefer_longer

graph = create_tpo_graph(
    ScriptedChatModel(),  # a fake, as is the reward: put real names in their place
    prefer_longer,
    interrupt_at=["select", "gradient"],
    checkpointer=InMemorySaver(),  # a database's, to answer tomorrow and from another process
)
thread = {"configurable": {"thread_id": "1"}}
options = {"width": 3, "depth": 1}

# What a person would type, one after the other; the first one is refused and asked for again.
answers = [
    {"chosen": 7},
    {"chosen": 2, "rejected": 3, "criteria": "It should sound warm."},
    {"gradient": "Greet the reader by name."},
    {"action": "continue"},
]

result = graph.invoke({"messages": [("user", "Say hello.")]}, thread, context=options)
for answer in answers:
    asked = result["__interrupt__"][0].value
    print(asked.get("error") or asked["question"])
    for candidate in asked.get("candidates", []):
        print(f"  {candidate['number']}. {candidate['reward']:.1f} {candidate['response']}")
    print(f"> {answer}")
    result = graph.invoke(Command(resume=answer), thread, context=options)

print(result["messages"][-1].text)
