"""The graph as a node of other graphs: streams, checkpoints, resumes, contexts."""

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph

from tests.agents.fakes import ToolCallingModel
from tpo_graph import TPOContext, create_tpo_graph
from tpo_graph.agents.node import tpo_node
from tpo_graph.errors import ConfigurationError, PolicyError
from tpo_graph.testing import ScriptedChatModel, draft_then_improve, prefer_longer

ROOT = Path(__file__).parent.parent.parent
STEPS = ["sample", "reward_score", "select", "loss", "gradient", "update"]
ONCE = [*STEPS, "reward_score", "select"]
SMALL: Any = {"depth": 1, "width": 2}
RAISING: Any = {**SMALL, "on_failure": "raise"}
THREAD: Any = {"configurable": {"thread_id": "t"}}
QUESTION: Any = {"messages": [("user", "Say hello.")]}


def parent_of(model: Any = None, *, schema: Any = MessagesState, **options: Any):
    """A graph with TPO between two nodes that do nothing."""
    node = create_tpo_graph(model or ScriptedChatModel(), prefer_longer)
    return compiled(schema, node, **options)


def compiled(schema: Any, node: Any, *, context_schema: Any = None, checkpointer: Any = None):
    builder = StateGraph(schema, context_schema=context_schema)
    builder.add_node("before", lambda state: {})
    builder.add_node("refine", node)
    builder.add_edge(START, "before")
    builder.add_edge("before", "refine")
    return builder.compile(checkpointer=checkpointer)


def failing_at(call: int) -> ScriptedChatModel:
    """A model that plays TPO but raises, once, at its call number `call` (from 0)."""
    seen = {"calls": 0}

    def play(messages: Any, index: int) -> str:
        seen["calls"] += 1
        if seen["calls"] == call + 1:
            raise ConnectionError("lost in mid-run")
        return draft_then_improve(messages, index)

    return ScriptedChatModel(replies=play)


class TestInAMessagesGraph:
    async def test_one_message_and_no_critique(self):
        for out in (
            parent_of().invoke(QUESTION, context=SMALL),
            await parent_of().ainvoke(QUESTION, context=SMALL),
        ):
            assert list(out) == ["messages"]
            question, answer = out["messages"]
            assert isinstance(question, HumanMessage)
            assert isinstance(answer, AIMessage)
            assert answer.text.startswith("Answer!")
            assert answer.response_metadata["tpo"]["stop_reason"] == "depth"

    def test_the_childs_nodes_are_streamed_under_its_name(self):
        chunks = parent_of().stream(QUESTION, context=SMALL, subgraphs=True, stream_mode="updates")
        steps = [(space, next(iter(update))) for space, update in chunks]
        inside = [(space, step) for space, step in steps if space]
        assert [step for _, step in inside] == ONCE
        assert {space[0].split(":")[0] for space, _ in inside} == {"refine"}
        assert [step for space, step in steps if not space] == ["before", "refine"]

    def test_the_drawing_shows_the_child(self):
        nodes = set(parent_of().get_graph(xray=True).nodes)
        assert {f"refine:{step}" for step in STEPS} <= nodes

    def test_a_second_question_in_the_thread_is_a_new_run(self):
        graph = parent_of(checkpointer=InMemorySaver())
        graph.invoke(QUESTION, THREAD, context=SMALL)
        out = graph.invoke({"messages": [("user", "Again.")]}, THREAD, context=SMALL)
        assert [m.type for m in out["messages"]] == ["human", "ai", "human", "ai"]
        runs = [m.response_metadata["tpo"]["run_id"] for m in out["messages"] if m.type == "ai"]
        assert len(set(runs)) == 2

    @pytest.mark.parametrize("subgraphs", [False, True])
    async def test_the_message_stream_is_the_answer_alone(self, subgraphs: bool):
        model = ToolCallingModel()
        options: Any = {"context": SMALL, "stream_mode": "messages", "subgraphs": subgraphs}
        synced = list(parent_of(model).stream(QUESTION, **options))
        chunks = [chunk async for chunk in parent_of(model).astream(QUESTION, **options)]
        for streamed in (synced, chunks):
            messages = [chunk[1][0] if subgraphs else chunk[0] for chunk in streamed]
            assert len(messages) == 1
            assert messages[0].response_metadata["tpo"]["iteration"] == 1


class TestCheckpoints:
    def test_the_parents_checkpointer_holds_the_childs_steps(self):
        saver = InMemorySaver()
        parent_of(checkpointer=saver).invoke(QUESTION, THREAD, context=SMALL)
        spaces = {c.config["configurable"]["checkpoint_ns"] for c in saver.list(THREAD)}
        (inside,) = spaces - {""}
        assert inside.startswith("refine:")

    @pytest.mark.parametrize("call", range(1, 5))
    async def test_a_failure_inside_resumes_inside_and_repeats_no_finished_call(self, call: int):
        whole = ScriptedChatModel()
        parent_of(whole).invoke(QUESTION, context=SMALL)
        stages = [messages[-1].text for messages, _ in whole.calls]

        for way in ("sync", "async"):
            model = failing_at(call)
            graph = parent_of(model, checkpointer=InMemorySaver())
            if way == "sync":
                with pytest.raises(PolicyError, match="lost"):
                    graph.invoke(QUESTION, THREAD, context=RAISING)
                assert graph.get_state(THREAD).next == ("refine",)
                out = graph.invoke(None, THREAD, context=RAISING)
            else:
                with pytest.raises(PolicyError, match="lost"):
                    await graph.ainvoke(QUESTION, THREAD, context=RAISING)
                out = await graph.ainvoke(None, THREAD, context=RAISING)
            finished = len(model.calls) - 1  # all but the one that failed
            assert finished == len(stages) == 4
            assert out["messages"][-1].text.startswith("Answer!")
            assert [m.type for m in out["messages"]] == ["human", "ai"]


KILLED = """
import os, signal, sys
from langgraph.checkpoint.sqlite import SqliteSaver
from tests.agents.test_node import QUESTION, SMALL, THREAD, parent_of
from tpo_graph.testing import ScriptedChatModel, draft_then_improve

def play(messages, index):
    text = draft_then_improve(messages, index)
    print(text, flush=True)
    if text.startswith("1. Add"):
        os.kill(os.getpid(), signal.SIGKILL)
    return text

with SqliteSaver.from_conn_string(sys.argv[1]) as saver:
    graph = parent_of(ScriptedChatModel(replies=play), checkpointer=saver)
    graph.invoke(QUESTION, THREAD, context=SMALL, durability="sync")
"""


def test_a_killed_process_is_continued_inside_the_child_by_another(tmp_path: Path):
    database = str(tmp_path / "checkpoints.db")
    command = [sys.executable, "-c", KILLED, database]
    killed = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL
    assert killed.stdout.splitlines()[:2] == ["Answer (0)", "Answer (1)"]  # sampled and paid for
    model = ScriptedChatModel()
    with SqliteSaver.from_conn_string(database) as saver:
        out = parent_of(model, checkpointer=saver).invoke(None, THREAD, context=SMALL)
    prompts = [messages[-1].text for messages, _ in model.calls]
    assert ["fewest changes" in prompts[0], "complete new answer" in prompts[1]] == [True, True]
    assert out["messages"][-1].response_metadata["tpo"]["iteration"] == 1


class Draft(TypedDict, total=False):
    question: str
    draft: str
    note: str


@dataclass
class DraftObject:
    ask: Any = ""
    reply: str = ""


class TestInAnotherSchema:
    async def test_it_reads_one_field_and_writes_another(self):
        node = tpo_node(create_tpo_graph(ScriptedChatModel(), prefer_longer))
        graph = compiled(Draft, node)
        given: Any = {"question": "Say hello.", "note": "kept"}
        for out in (
            graph.invoke(given, context=SMALL),
            await graph.ainvoke(given, context=SMALL),
        ):
            assert out["draft"].startswith("Answer!")
            assert (out["question"], out["note"]) == ("Say hello.", "kept")

    def test_a_conversation_in_a_dataclass(self):
        model = ScriptedChatModel()
        child = create_tpo_graph(model, prefer_longer)
        graph = compiled(DraftObject, tpo_node(child, query="ask", answer="reply"))
        conversation = [HumanMessage("Hi"), AIMessage("Hello."), HumanMessage("And now?")]
        out = graph.invoke(DraftObject(ask=conversation), context=SMALL)
        assert out["reply"].startswith("Answer!")
        assert [m.text for m in model.calls[0][0]] == ["Hi", "Hello.", "And now?"]

    def test_a_single_message_is_a_question(self):
        graph = compiled(Draft, tpo_node(create_tpo_graph(ScriptedChatModel(), prefer_longer)))
        given: Any = {"question": HumanMessage("Say hello.")}
        assert graph.invoke(given, context=SMALL)["draft"].startswith("Answer!")

    @pytest.mark.parametrize("question", [None, 3, "", {"text": "x"}, [None]])
    def test_what_is_no_question_is_told_with_its_field(self, question: Any):
        model = ScriptedChatModel()
        graph = compiled(Draft, tpo_node(create_tpo_graph(model, prefer_longer)))
        with pytest.raises(ConfigurationError, match=r"the field 'question' of the state: .*Give"):
            graph.invoke({"question": question}, context=SMALL)
        with pytest.raises(KeyError, match=r"field 'question' of the state, which has \['note'"):
            graph.invoke({"note": "x"}, context=SMALL)
        assert model.calls == []

    def test_it_stays_a_subgraph_for_streams_and_drawings(self):
        graph = compiled(Draft, tpo_node(create_tpo_graph(ScriptedChatModel(), prefer_longer)))
        given: Any = {"question": "Say hello."}
        chunks = graph.stream(given, context=SMALL, subgraphs=True, stream_mode="updates")
        inside = [(space[0], next(iter(update))) for space, update in chunks if space]
        assert [step for _, step in inside] == ONCE
        assert all(space.startswith("refine:") for space, _ in inside)
        assert [name for name, _ in graph.get_subgraphs()] == ["refine"]

    @pytest.mark.parametrize("way", ["sync", "async"])
    async def test_a_failure_inside_resumes_inside(self, way: str):
        model = failing_at(2)
        node = tpo_node(create_tpo_graph(model, prefer_longer))
        graph = compiled(Draft, node, checkpointer=InMemorySaver())
        given: Any = {"question": "Say hello."}
        if way == "sync":
            with pytest.raises(PolicyError):
                graph.invoke(given, THREAD, context=RAISING)
            out = graph.invoke(None, THREAD, context=RAISING)
        else:
            with pytest.raises(PolicyError):
                await graph.ainvoke(given, THREAD, context=RAISING)
            out = await graph.ainvoke(None, THREAD, context=RAISING)
        assert len(model.calls) == 4 + 1
        assert out["draft"].startswith("Answer!")


@dataclass
class ParentContext:
    user: str = "someone"
    tpo: Any = None


class TestTheParentsContext:
    """A parent's context reaches the child as it is; only its `tpo` part is the child's."""

    @pytest.mark.parametrize(
        ("schema", "context", "depth"),
        [
            (ParentContext, ParentContext(), 2),
            (ParentContext, ParentContext(tpo={"depth": 1}), 1),
            (ParentContext, {"user": "me", "tpo": TPOContext(depth=0)}, 0),
            (None, {"user": "me"}, 2),
            (None, {"user": "me", "tpo": {"depth": 1}}, 1),
            (None, {"depth": 1}, 1),
            (None, None, 2),
        ],
    )
    def test_depth(self, schema: Any, context: Any, depth: int):
        model = ScriptedChatModel()
        parent_of(model, context_schema=schema).invoke(QUESTION, context=context)
        assert len(model.calls) == 1 + 3 * depth
