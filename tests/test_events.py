"""Progress events: each one that is told fits its type, and each type is told."""

from typing import Any, get_args

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command
from pydantic import TypeAdapter

from tpo_graph import create_tpo_graph
from tpo_graph.events import Event
from tpo_graph.testing import ScriptedChatModel, prefer_longer

QUERY: Any = {"messages": [("user", "Say hello.")]}
TYPES = {get_args(kind.__annotations__["event"])[0]: kind for kind in get_args(Event)}


def events_of(
    model: ScriptedChatModel | None = None, answers: Any = (), depth: int = 1, **options: Any
) -> list[Any]:
    """All events of one run, whatever it asks being answered in order."""
    graph = create_tpo_graph(
        model or ScriptedChatModel(), prefer_longer, checkpointer=InMemorySaver(), **options
    )
    config: Any = {"configurable": {"thread_id": "t"}}
    context = {"depth": depth, "width": 2}
    return [
        event
        for given in (QUERY, *(Command(resume=answer) for answer in answers))
        for event in graph.stream(given, config, context=context, stream_mode="custom")
    ]


def untagged(messages: Any, index: int) -> str:
    return "no tags" if "<chosen_answer>" not in messages[-1].text else "critique"


RUNS: dict[str, Any] = {
    "plain": {"depth": 2},
    "silent critic": {"critic": ScriptedChatModel(replies=[""])},
    "unusable updates": {"model": ScriptedChatModel(replies=untagged)},
    "person": {
        "interrupt_at": ["select", "gradient"],
        "answers": [{"chosen": 9}, {"chosen": 2, "rejected": 1}, {"action": "stop"}],
    },
}


@pytest.mark.parametrize("name", RUNS)
def test_every_event_fits_its_type(name: str):
    events = events_of(**RUNS[name])
    assert events
    for event in events:
        kind = TYPES[event["event"]]
        assert set(event) == set(kind.__annotations__)
        TypeAdapter(kind).validate_python(event, strict=True)
    assert len({event["run_id"] for event in events}) == 1
    assert [event["iteration"] for event in events] == sorted(e["iteration"] for e in events)


def test_every_type_is_told():
    told = {event["event"] for options in RUNS.values() for event in events_of(**options)}
    assert told == set(TYPES)


def kinds(events: list[Any]) -> list[str]:
    return [event["event"] for event in events]


def test_new_best_is_told_only_when_the_best_changes():
    improved = "<improved_answer>short</improved_answer>"
    worse = ScriptedChatModel(replies=["a long answer", "short", "loss", "grad", *[improved] * 2])
    events = events_of(worse)
    assert kinds(events).count("new_best") == 1
    assert (events[-1]["reason"], events[-1]["reward"]) == ("depth", 13.0)


def test_a_silent_critic_is_told_as_unusable_and_what_follows_as_skipped():
    events = events_of(**RUNS["silent critic"])
    by_kind = {event["event"]: event for event in events}
    assert (by_kind["loss"]["text"], by_kind["loss"]["unusable"]) == ("", 2)
    assert (by_kind["gradient"]["text"], by_kind["gradient"]["unusable"]) == ("", 0)
    assert (by_kind["samples"]["n"], by_kind["samples"]["unusable"]) == (0, 0)
    assert by_kind["rewards"]["rewards"] == []
    assert by_kind["stopped"]["reason"] == "no_usable_update"


def test_unusable_updates_are_counted():
    events = events_of(**RUNS["unusable updates"])
    first, update = (event for event in events if event["event"] == "samples")
    assert (first["n"], first["unusable"]) == (2, 0)
    assert (update["n"], update["unusable"]) == (0, 4)


def test_a_persons_answer_is_told_once_and_says_what_it_changed():
    reviewed = [e for e in events_of(**RUNS["person"]) if e["event"] == "reviewed"]
    assert [(e["at"], e["action"], e["changed"]) for e in reviewed] == [
        ("select", "continue", ["chosen", "rejected"]),
        ("gradient", "stop", []),
    ]
