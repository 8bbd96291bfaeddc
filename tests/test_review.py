"""A person in the loop: what they are shown, what they may answer, and what it changes."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command

from tpo_graph import create_tpo_graph
from tpo_graph.cache import MemoryCache
from tpo_graph.testing import ScriptedChatModel, prefer_longer

QUERY: Any = {"messages": [("user", "Say hello.")]}
CONTINUE: Any = Command(resume={"action": "continue"})
FIRST = ["a", "bbb", "cc", "dddd"]


def play(messages: Any, index: int) -> str:
    """First samples of different lengths, then rewrites that are all longer."""
    prompt = messages[-1].text
    if "</improved_answer>" in prompt:
        return f"<improved_answer>rewrite {index:04d}</improved_answer>"
    if "fewest changes" in prompt:
        return "the gradient"
    return "the loss" if "<chosen_answer>" in prompt else FIRST[index % 4]


def whole(messages: Any) -> str:
    """Everything that one call was sent."""
    return "\n".join(message.text for message in messages)


class Session:
    """One run of a graph with a person in it."""

    def __init__(self, **options: Any) -> None:
        self.model = ScriptedChatModel(replies=play)
        self.cache = MemoryCache()
        self.context = options.pop("context", {"width": 4, "depth": 1})
        self.graph = create_tpo_graph(
            self.model,
            prefer_longer,
            cache=self.cache,
            checkpointer=InMemorySaver(),
            **options,
        )
        self.config: Any = {"configurable": {"thread_id": "t"}}
        self.events: list[Any] = []
        self.values: Any = None

    def go(self, given: Any = QUERY) -> Any:
        """Run until the next question, and return it; None when the run has ended."""
        question = None
        for mode, chunk in self.graph.stream(
            given, self.config, context=self.context, stream_mode=["values", "custom"]
        ):
            if mode == "custom":
                self.events.append(chunk)
            elif "__interrupt__" in chunk:
                question = chunk["__interrupt__"][0].value
            else:
                self.values = chunk
        return question

    def answer(self, **answer: Any) -> Any:
        return self.go(Command(resume=answer))

    def prompts(self) -> list[str]:
        return [whole(messages) for messages, _ in self.model.calls]


class TestSelect:
    def test_a_person_sees_the_candidates_with_rewards_best_first(self):
        question = Session(interrupt_at="select").go()
        assert question["question"] == "Which pair should the critic compare?"
        assert (question["chosen"], question["rejected"]) == (1, 4)
        assert question["candidates"] == [
            {"number": 1, "reward": 4.0, "iteration": 0, "response": "dddd"},
            {"number": 2, "reward": 3.0, "iteration": 0, "response": "bbb"},
            {"number": 3, "reward": 2.0, "iteration": 0, "response": "cc"},
            {"number": 4, "reward": 1.0, "iteration": 0, "response": "a"},
        ]
        assert list(question)[-1] == "candidates"

    def test_agreeing_changes_nothing(self):
        asked, plain = Session(interrupt_at="select"), Session()
        asked.go()
        assert asked.answer(action="continue")["stop_reason"] == "depth"
        assert asked.answer(action="continue") is None
        assert plain.go() is None
        assert asked.prompts() == plain.prompts()
        assert asked.values["review"] is None
        assert asked.values["messages"][-1].text == plain.values["messages"][-1].text
        assert [e for e in asked.events if e["event"] != "reviewed"] == [
            {**event, "run_id": asked.values["run_id"]} for event in plain.events
        ]
        for session in (asked, plain):
            for stage in session.values["usage"].values():
                del stage["seconds"]
        assert asked.values["usage"] == plain.values["usage"]

    def test_another_pair_is_compared_and_improved_but_the_answer_stays_the_best(self):
        session = Session(interrupt_at="select")
        session.go()
        session.answer(chosen=3, rejected=2)
        loss, _, update = session.prompts()[1:4]
        for prompt in (loss, update):
            assert "<chosen_answer>\ncc\n" in prompt
        assert "<rejected_answer>\nbbb\n" in loss
        step = asyncio.run(session.cache.steps(session.values["run_id"]))[0]
        assert (step["chosen"]["response"], step["rejected"]["response"]) == ("cc", "bbb")
        assert session.values["chosen"]["response"] == "dddd"
        assert session.answer(action="continue") is None
        assert session.values["messages"][-1].text.startswith("rewrite")

    def test_the_choice_holds_for_one_iteration_and_the_extremes_stay_true(self):
        session = Session(interrupt_at="select", context={"width": 4, "depth": 2})
        session.go()
        question = session.answer(chosen=4, rejected=1)
        assert [c["response"] for c in question["candidates"]][-1] == "a"
        assert question["rejected"] == len(question["candidates"])
        assert question["chosen"] == 1
        session.answer(action="continue")
        assert session.values["rejected"]["response"] == "a"

    def test_criteria_reach_the_critic_from_then_on(self):
        session = Session(interrupt_at="select", context={"width": 4, "depth": 2, "criteria": "X1"})
        session.go()
        session.answer(criteria="Be {brief}.")
        session.answer(criteria="And kind.")
        prompts = session.prompts()
        assert all("X1\n\nBe {brief}." in prompt for prompt in prompts[1:])
        assert ["And kind." in prompt for prompt in prompts[1:]] == [False] * 3 + [True] * 3

    @pytest.mark.parametrize(("pick", "text"), [({}, "dddd"), ({"chosen": 3}, "cc")])
    def test_stop_ends_with_the_best_or_with_the_pick(self, pick: Any, text: str):
        session = Session(interrupt_at="select")
        session.go()
        assert session.answer(action="stop", **pick) is None
        answer = session.values["messages"][-1]
        assert isinstance(answer, AIMessage)
        assert answer.text == text
        assert answer.response_metadata["tpo"]["reward"] == float(len(text))
        assert session.values["stop_reason"] == "person"
        assert session.values["chosen"]["response"] == "dddd"
        assert len(session.model.calls) == 1
        assert session.events[-1]["reward"] == float(len(text))

    def test_at_the_end_the_answer_itself_can_be_chosen(self):
        session = Session(interrupt_at="select", context={"width": 4, "depth": 0})
        question = session.go()
        assert question["question"] == "Is this the answer?"
        assert question["stop_reason"] == "depth"
        assert session.answer(action="stop", chosen=2) is None
        assert session.values["messages"][-1].text == "bbb"

    def test_width_one(self):
        session = Session(interrupt_at="select", context={"width": 1, "depth": 1})
        question = session.go()
        assert (question["chosen"], question["rejected"]) == (1, 1)
        assert session.answer(action="continue") is not None


class TestGradient:
    def test_a_person_edits_the_instructions_before_they_are_followed(self):
        session = Session(interrupt_at="gradient")
        question = session.go()
        assert (question["gradient"], question["loss"]) == ("the gradient", "the loss")
        assert len(session.model.calls) == 3
        assert session.answer(gradient="Say {it} in French.") is None
        assert "Say {it} in French." in session.prompts()[3]
        assert session.values["gradient"] == "Say {it} in French."
        steps = asyncio.run(session.cache.steps(session.values["run_id"]))
        assert steps[0]["gradient"] == "Say {it} in French."

    def test_nothing_is_paid_for_twice(self):
        session = Session(interrupt_at=["select", "gradient"])
        for given in (QUERY, *[CONTINUE] * 3):
            session.go(given)
        assert len(session.model.calls) == 4
        kinds = [event["event"] for event in session.events]
        assert kinds == [
            *("samples", "rewards", "reviewed", "new_best", "loss", "gradient"),
            *("reviewed", "samples", "rewards", "reviewed", "new_best", "stopped"),
        ]

    def test_stop_at_the_gradient_is_not_asked_about_again_at_select(self):
        session = Session(interrupt_at=["select", "gradient"])
        session.go()
        session.answer(chosen=4, rejected=1)
        assert session.answer(action="stop") is None
        assert session.values["stop_reason"] == "person"
        assert session.values["messages"][-1].text == "dddd"
        assert len(session.model.calls) == 3

    def test_a_person_can_write_what_the_critic_could_not(self):
        session = Session(interrupt_at="gradient")
        mute = ScriptedChatModel(replies=[""])
        session.graph = create_tpo_graph(
            session.model,
            prefer_longer,
            critic=mute,
            interrupt_at="gradient",
            checkpointer=InMemorySaver(),
        )
        assert session.go()["gradient"] == ""
        assert session.answer(gradient="Be warm.", criteria="Warmth.") is None
        assert session.values["messages"][-1].text.startswith("rewrite")
        assert "Warmth." in session.prompts()[-1]


async def test_async():
    model = ScriptedChatModel(replies=play)
    graph = create_tpo_graph(
        model, prefer_longer, interrupt_at=["select", "gradient"], checkpointer=InMemorySaver()
    )
    config: Any = {"configurable": {"thread_id": "t"}}
    context = {"width": 4, "depth": 1}
    out = await graph.ainvoke(QUERY, config, context=context)
    for answer in ({"chosen": 2}, {"gradient": "Be kind."}, {"action": "continue"}):
        assert out["__interrupt__"]
        out = await graph.ainvoke(Command(resume=answer), config, context=context)
    assert "__interrupt__" not in out
    assert len(model.calls) == 4
    assert "Be kind." in model.calls[3][0][-1].text


PROCESS = """
import asyncio, json, sys
import aiosqlite
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command
from tests.test_review import FIRST, play, whole
from tpo_graph import create_tpo_graph
from tpo_graph.testing import ScriptedChatModel, prefer_longer

async def main(path, given):
    given = json.loads(given)
    model = ScriptedChatModel(replies=play)
    async with aiosqlite.connect(path) as connection:
        graph = create_tpo_graph(
            model, prefer_longer, interrupt_at="select", checkpointer=AsyncSqliteSaver(connection)
        )
        out = await graph.ainvoke(
            Command(resume=given["resume"]) if "resume" in given else given,
            {"configurable": {"thread_id": "t"}},
            context={"width": 4, "depth": 1},
            durability="sync",
        )
    asked = out.get("__interrupt__")
    print(json.dumps({
        "calls": [whole(messages) for messages, _ in model.calls],
        "question": asked[0].value if asked else None,
        "stop_reason": out["stop_reason"],
    }))

asyncio.run(main(*sys.argv[1:]))
"""


def test_a_question_survives_the_process(tmp_path: Path, root: Path):
    def process(given: Any) -> Any:
        command = [sys.executable, "-c", PROCESS, str(tmp_path / "t.db"), json.dumps(given)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    first = process({"messages": [["user", "Say hello."]]})
    assert len(first["calls"]) == 1
    refused = process({"resume": {"chosen": 9}})
    assert refused["calls"] == []
    assert refused["question"].pop("error")
    assert refused["question"] == first["question"]
    second = process({"resume": {"chosen": 3, "rejected": 2}})
    assert len(second["calls"]) == 3
    assert "<chosen_answer>\ncc\n" in second["calls"][0]
    assert second["question"]["stop_reason"] == "depth"
    assert process({"resume": {"action": "continue"}}) == {
        "calls": [],
        "question": None,
        "stop_reason": "depth",
    }


def test_inside_another_graph_the_parents_checkpointer_holds_the_question():
    session = Session()
    child = create_tpo_graph(
        session.model, prefer_longer, interrupt_at=["select"], defaults={"width": 4, "depth": 1}
    )
    builder = StateGraph(MessagesState)
    builder.add_node("refine", child)
    builder.add_edge(START, "refine")
    parent = builder.compile(checkpointer=InMemorySaver())
    out = parent.invoke(QUERY, session.config)
    for answer in ({"chosen": 9}, {"chosen": 2, "rejected": 4}, {"action": "continue"}):
        assert out["__interrupt__"]
        out = parent.invoke(Command(resume=answer), session.config)
    assert out["messages"][-1].text.startswith("rewrite")
    assert len(session.model.calls) == 4
    assert "<chosen_answer>\nbbb\n" in session.prompts()[1]
