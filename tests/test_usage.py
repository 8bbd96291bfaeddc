"""The ledger: one entry per stage, told by the step that changed it, new for every run."""

from typing import Any

from langgraph.checkpoint.memory import InMemorySaver

from tpo_graph import create_tpo_graph
from tpo_graph.testing import ScriptedChatModel, prefer_longer

QUERY: Any = {"messages": [("user", "Say hello.")]}


def test_each_step_tells_its_own_entry_and_the_state_holds_all():
    graph = create_tpo_graph(ScriptedChatModel(), prefer_longer, checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "t"}}
    parts = graph.stream(QUERY, thread, context={"depth": 2}, stream_mode="updates")
    told: dict[str, Any] = {}
    for part in parts:
        for step, change in part.items():
            assert set(change.get("usage", {})) <= {step}
            told |= change.get("usage", {})
    assert graph.get_state(thread).values["usage"] == told
    requests = {stage: usage["requests"] for stage, usage in told.items()}
    assert requests == {"sample": 1, "reward_score": 3, "loss": 2, "gradient": 2, "update": 2}


def test_a_new_run_on_a_thread_begins_a_new_ledger():
    graph = create_tpo_graph(ScriptedChatModel(), prefer_longer, checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "t"}}
    graph.invoke(QUERY, thread, context={"depth": 1})
    out = graph.invoke(QUERY, thread, context={"depth": 0})
    assert set(out["usage"]) == {"sample", "reward_score"}
    assert out["usage"]["sample"]["requests"] == 1
