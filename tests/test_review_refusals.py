"""Answers of a person that cannot be followed, and places where nobody can be asked."""

from pathlib import Path
from typing import Any

import pytest
from langgraph.types import Command

from tests.test_review import QUERY, Session
from tpo_graph import TPOContext, create_tpo_graph, optimize
from tpo_graph.errors import ConfigurationError
from tpo_graph.testing import ScriptedChatModel, prefer_longer


class TestRefusedAnswers:
    @pytest.mark.parametrize(
        ("answer", "why"),
        [
            ("yes", "'yes' is not an object"),
            ({"chosen": 9}, "chosen=9: there are candidates 1 to 4"),
            ({"rejected": 0}, "rejected=0: there are candidates 1 to 4"),
            ({"chosen": "1"}, "chosen='1' is not valid"),
            ({"chosen": True}, "chosen=True is not valid"),
            ({"chosen": 2, "rejected": 2}, "both candidate 2"),
            ({"chosen": 4}, "both candidate 4"),
            ({"winner": 1}, "there is no setting 'winner'; there are action, chosen,"),
            ({"action": "halt"}, "action='halt' is not valid"),
            ({"criteria": " "}, "blank"),
            ({"action": "stop", "criteria": "x"}, 'on "stop" nothing is compared'),
        ],
    )
    def test_a_wrong_answer_is_asked_for_again_with_the_reason(self, answer: Any, why: str):
        session = Session(interrupt_at="select")
        first = session.go()
        again = session.go(Command(resume=answer))
        assert why in again["error"]
        assert next(iter(again)) == "error"
        assert {k: v for k, v in again.items() if k != "error"} == first
        assert len(session.model.calls) == 1
        assert session.events[-1]["event"] == "rewards"
        assert session.answer(action="stop", chosen=2) is None
        assert session.values["messages"][-1].text == "bbb"

    def test_several_wrong_answers_in_a_row(self):
        session = Session(interrupt_at="select")
        session.go()
        for number in (7, 8, 9):
            assert f"chosen={number}" in session.answer(chosen=number)["error"]
        assert session.answer(action="stop") is None

    @pytest.mark.parametrize("answer", [{"chosen": 2}, {"criteria": "more"}])
    def test_at_the_end_nothing_more_is_compared(self, answer: Any):
        session = Session(interrupt_at="select", context={"width": 4, "depth": 0})
        session.go()
        assert "the run ends here (depth)" in session.answer(**answer)["error"]

    @pytest.mark.parametrize(
        "answer", [{"gradient": " "}, {"gradient": ""}, {"action": "stop", "gradient": "x"}]
    )
    def test_a_wrong_answer_to_the_gradient(self, answer: Any):
        session = Session(interrupt_at="gradient")
        session.go()
        assert session.answer(**answer)["error"]
        assert len(session.model.calls) == 3

    def test_criteria_that_no_prompt_would_show(self, tmp_path: Path):
        variables = {
            "loss": ["chosen"],
            "gradient": ["chosen", "loss"],
            "update": ["chosen", "gradient"],
        }
        for stage, names in variables.items():
            user = " ".join(f"{{{name}}}" for name in names)
            text = f"input_variables: {names}\nsystem: ''\nuser: '{user}'\n"
            (tmp_path / f"{stage}.yaml").write_text(text, encoding="utf-8")
        session = Session(interrupt_at="select", prompts=str(tmp_path))
        session.go()
        assert "would be ignored" in session.answer(criteria="brief")["error"]

    def test_the_form_of_an_answer_is_given_to_clients(self):
        session = Session(interrupt_at="select")
        session.go()
        (waiting,) = session.graph.get_state(session.config).interrupts
        schema: Any = waiting.response_schema
        assert set(schema["properties"]) == {"action", "criteria", "chosen", "rejected"}
        assert all("description" in field for field in schema["properties"].values())


class TestConfiguration:
    def test_an_unknown_place_is_refused(self):
        with pytest.raises(ConfigurationError, match="reward_score"):
            create_tpo_graph(ScriptedChatModel(), prefer_longer, interrupt_at="reward_score")

    def test_a_run_that_could_never_be_resumed_is_refused_before_it_costs_anything(self):
        model = ScriptedChatModel()
        graph = create_tpo_graph(model, prefer_longer, interrupt_at="select")
        for config in (None, {"configurable": {"thread_id": "t"}}):  # a thread that nobody keeps
            with pytest.raises(ConfigurationError, match="checkpointer"):
                graph.invoke(QUERY, config)  # type: ignore[arg-type]
        assert model.calls == []

    def test_optimize_cannot_wait_for_a_person(self):
        model = ScriptedChatModel()
        with pytest.raises(ConfigurationError, match="create_tpo_graph"):
            optimize("Hi", model=model, reward_model=prefer_longer, interrupt_at="select")
        assert model.calls == []

    def test_the_context_can_ask_or_not_per_run(self):
        assert Session(context=TPOContext(interrupt_at=("select",), depth=0)).go() is not None
        session = Session(interrupt_at="select", context={"depth": 0, "interrupt_at": []})
        assert session.go() is None

    def test_the_graphs_own_setting_holds_when_the_caller_gives_another_context_object(self):
        session = Session(interrupt_at="select", context=TPOContext(width=4, depth=0))
        assert session.go() is not None

    def test_the_wiring_does_not_change(self):
        mermaids = {
            create_tpo_graph(ScriptedChatModel(), prefer_longer, interrupt_at=at)
            .get_graph()
            .draw_mermaid()
            for at in ((), ("select", "gradient"))
        }
        assert len(mermaids) == 1
