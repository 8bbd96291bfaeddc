"""Prompt sets: found, checked at load, rendered once and exactly."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from tpo_graph import create_tpo_graph
from tpo_graph.errors import ConfigurationError, PromptError
from tpo_graph.prompts import VARIABLES, load_prompts
from tpo_graph.testing import ScriptedChatModel, prefer_longer

STAGES = ("loss", "gradient", "update")


def write_set(folder: Path, **stages: dict[str, Any]) -> Path:
    """A prompt set on disk: the given fields over a minimal valid set."""
    minimal = {
        "loss": {"user": "compare {chosen} {rejected}", "input_variables": ["chosen", "rejected"]},
        "gradient": {"user": "instruct {loss}", "input_variables": ["loss"]},
        "update": {"user": "write {gradient}", "input_variables": ["gradient"]},
    }
    folder.mkdir(exist_ok=True)
    for stage, fields in minimal.items():
        content = {**fields, **stages.get(stage, {})}
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["tpo", "revision"])
def test_the_sets_that_come_with_the_package_load(name: str):
    prompts = load_prompts(name)
    assert prompts.update.output_tag == "improved_answer"
    assert prompts.uses_criteria
    assert ("rejected" in prompts.loss.variables) == (name == "tpo")


@pytest.mark.parametrize("name", ["tpo", "revision"])
def test_the_update_shows_the_request_the_answer_the_changes_and_their_reasons_only(name: str):
    values = {v: f"<{v} text>" for v in VARIABLES["update"]}
    messages = load_prompts(name).render("update", values).messages()
    asked = "\n".join(message.text for message in messages)
    shown = {v for v in values if f"<{v} text>" in asked}
    reasons = {"reasons"} if name == "tpo" else set[str]()
    assert shown == {"conversation", "chosen", "gradient", "criteria"} | reasons


def test_the_calls_of_a_conversation_share_their_beginning_for_prefix_caches(root: Path):
    values = {v: f"<{v} text>" for v in VARIABLES["update"]}
    prompts = load_prompts(root / "benchmarks" / "turns_prompts")
    loss, gradient, update = (prompts.render(stage, values).messages() for stage in STAGES)
    assert gradient[:-1] == [*loss, AIMessage("<loss text>")]
    assert update[:-1] == [*gradient, AIMessage("<gradient text>")]


@given(texts=st.fixed_dictionaries({v: st.text() for v in VARIABLES["loss"]}))
def test_text_is_substituted_once(texts: dict[str, str]):
    texts["chosen"] += "{rejected}{{"
    rendered = load_prompts("tpo").loss.render({**texts, "criteria": ""})
    assert texts["chosen"] in rendered.user
    assert texts["conversation"] in rendered.user


def test_criteria_bring_their_own_block_and_leave_none_behind():
    values = dict.fromkeys(VARIABLES["loss"], "x")
    with_criteria = load_prompts("tpo").loss.render({**values, "criteria": "be brief"}).user
    without = load_prompts("tpo").loss.render({**values, "criteria": ""}).user
    assert "<criteria>\nbe brief\n</criteria>" in with_criteria
    assert "criteria" not in without


def test_an_empty_system_text_sends_no_system_message(tmp_path: Path):
    prompts = load_prompts(write_set(tmp_path, loss={"system": ""}))
    rendered = prompts.loss.render({"chosen": "a", "rejected": "b"})
    assert rendered.messages() == [HumanMessage("compare a b")]


def test_a_stage_that_continues_quotes_the_tag_of_the_reply(tmp_path: Path):
    folder = write_set(
        tmp_path,
        loss={"output_tag": "why"},
        gradient={"continues": "loss", "user": "and now?", "input_variables": []},
    )
    prompts = load_prompts(folder)
    values = dict.fromkeys(VARIABLES["update"], "x")
    assert prompts.render("gradient", values).messages() == [
        HumanMessage("compare x x"),
        AIMessage("<why>x</why>"),
        HumanMessage("and now?"),
    ]
    assert prompts.render("update", values).messages() == [HumanMessage("write x")]


def test_doubled_braces_are_literal_ones(tmp_path: Path):
    prompts = load_prompts(write_set(tmp_path, update={"user": 'json {{"a": {gradient}}}'}))
    assert prompts.update.render({"gradient": "{x}"}).user == 'json {"a": {x}}'


@pytest.mark.parametrize(
    ("stage", "fields", "message"),
    [
        ("loss", {"user": "{gradient}", "input_variables": ["gradient"]}, r"\['gradient'\].*loss"),
        ("loss", {"user": "{nope}", "input_variables": ["nope"]}, r"\['nope'\]"),
        ("loss", {"input_variables": ["chosen", "rejected", "query"]}, r"not used \['query'\]"),
        ("loss", {"input_variables": ["chosen"]}, r"not declared \['rejected'\]"),
        ("loss", {"input_variables": None}, "must list its `input_variables`"),
        ("update", {"user": "a\n{gradient} }"}, r"lone '}'.*line 2"),
        ("update", {"user": "{gradient} { x }"}, r"lone '{'"),
        ("update", {"user": "  "}, "no `user` text"),
        ("update", {"output_tag": "a b"}, "'a b'"),
        ("update", {"sytem": "typo"}, r"unknown keys \['sytem'\]"),
        ("update", {"system": 5}, "'system'.* must be text, not 5"),
        ("loss", {"continues": "gradient"}, "the loss continues nothing"),
        ("update", {"continues": "loss"}, "only 'gradient' comes before"),
        ("update", {"continues": "gradient", "system": "s"}, "leave `system` out"),
        ("loss", {"criteria": "{criteria}!"}, "must say where it goes|`system` or `user`"),
    ],
)
def test_a_broken_rule_is_an_error_at_load(
    tmp_path: Path, stage: str, fields: dict[str, Any], message: str
):
    with pytest.raises(PromptError, match=message) as caught:
        load_prompts(write_set(tmp_path, **{stage: fields}))
    assert f"{stage}.yaml" in str(caught.value)


def test_a_file_that_was_edited_is_read_again(tmp_path: Path):
    first = load_prompts(write_set(tmp_path / "set"))
    edited = {"user": "compare with care {chosen} {rejected}"}
    second = load_prompts(write_set(tmp_path / "set", loss=edited))
    values = {"chosen": "c", "rejected": "r"}
    assert first.render("loss", values).messages()[0].text == "compare c r"
    assert second.render("loss", values).messages()[0].text == "compare with care c r"
    assert first.digest != second.digest


def test_a_missing_file_a_missing_set_and_broken_yaml(tmp_path: Path):
    with pytest.raises(PromptError, match=r"no prompt set 'tpoo'.*'revision', .*'tpo'"):
        load_prompts("tpoo")
    folder = write_set(tmp_path / "set")
    (folder / "gradient.yaml").write_text("user: [unclosed", encoding="utf-8")
    with pytest.raises(PromptError, match=r"gradient\.yaml.*not valid YAML"):
        load_prompts(folder)
    (folder / "gradient.yaml").unlink()
    with pytest.raises(PromptError, match=r"gradient\.yaml' is missing"):
        load_prompts(folder)
    (folder / "gradient.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PromptError, match=r"gradient\.yaml' cannot be read"):
        load_prompts(folder)


def test_criteria_that_no_prompt_would_show_are_refused_before_any_call(tmp_path: Path):
    model = ScriptedChatModel()
    graph = create_tpo_graph(model, prefer_longer, prompts=str(write_set(tmp_path)))
    with pytest.raises(ConfigurationError, match=r"'brief'.*criteria"):
        graph.invoke({"messages": [("user", "hi")]}, context={"criteria": "brief"})
    assert model.calls == []


def test_textgrads_nested_form_can_be_expressed_exactly(tmp_path: Path):
    """The gradient quotes the whole loss exchange; the update quotes it again with the feedback."""
    folder = write_set(
        tmp_path,
        loss={
            "system": "evaluator of: {query}",
            "user": "better <{chosen}> worse <{rejected}>",
            "input_variables": ["query", "chosen", "rejected"],
        },
        gradient={
            "system": "giver of feedback",
            "user": "variable <{chosen}>\nin a call with system <{loss_system}>\n"
            "input <{loss_user}>\noutput <{loss}>",
            "input_variables": ["chosen", "loss_system", "loss_user", "loss"],
        },
        update={
            "system": "optimizer",
            "user": "improve <{chosen}>\ncall <{loss_system}|{loss_user}|{loss}>\n"
            "feedback <{gradient}>",
            "input_variables": ["chosen", "loss_system", "loss_user", "loss", "gradient"],
            "output_tag": "improved",
        },
    )
    replies = ["worse", "better one", "LOSS {x}", "GRADIENT", "<improved>best one</improved>"]
    model = ScriptedChatModel(replies=[*replies, replies[-1]])
    graph = create_tpo_graph(model, prefer_longer, prompts=str(folder))
    out = graph.invoke({"messages": [("user", "Q?")]}, context={"depth": 1, "width": 2})

    (_, loss, gradient, update) = [messages for messages, _ in model.calls]
    assert loss == [
        SystemMessage("evaluator of: Q?"),
        HumanMessage("better <better one> worse <worse>"),
    ]
    assert gradient == [
        SystemMessage("giver of feedback"),
        HumanMessage(
            "variable <better one>\nin a call with system <evaluator of: Q?>\n"
            "input <better <better one> worse <worse>>\noutput <LOSS {x}>"
        ),
    ]
    assert update == [
        SystemMessage("optimizer"),
        HumanMessage(
            "improve <better one>\ncall <evaluator of: Q?|better <better one> worse <worse>|"
            "LOSS {x}>\nfeedback <GRADIENT>"
        ),
    ]
    assert out["samples"] == ["best one", "best one"]
