"""What the critic is told: ties are no victories, a checker's reasons, and "nothing to change"."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from langchain_core.messages import BaseMessage

from tpo_graph import aextend, aoptimize, aresume, create_tpo_graph
from tpo_graph.errors import ConfigurationError, PromptError
from tpo_graph.prompts import load_prompts
from tpo_graph.rewards import Score
from tpo_graph.testing import ScriptedChatModel, draft_then_improve
from tpo_graph.testing.models import Script

QUERY = {"messages": [("user", "Say hello.")]}
PAIR = {
    "loss": {"user": "{chosen} beats {rejected}", "input_variables": ["chosen", "rejected"]},
    "gradient": {"user": "instruct {loss}", "input_variables": ["loss"]},
    "update": {"user": "write {gradient}", "input_variables": ["gradient"]},
}


def write_set(folder: Path, **more: object) -> Path:
    for stage, fields in {**PAIR, **more}.items():
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump(fields), encoding="utf-8")
    return folder


def losses(model: ScriptedChatModel) -> list[str]:
    """What each loss call was sent."""
    sent = ("\n".join(m.text for m in messages) for messages, _ in model.calls)
    return [text for text in sent if "beats" in text or "what the conversation asks" in text]


def run(reward: object, prompts: str | Path = "tpo", script: Script = draft_then_improve):
    model = ScriptedChatModel(replies=script)
    graph = create_tpo_graph(model, reward, prompts=prompts)  # pyright: ignore[reportArgumentType]
    return model, graph.invoke(QUERY, context={"width": 2, "depth": 1})


def by_length(query: str, response: str) -> float:
    return float(len(response))


@pytest.mark.parametrize("same", ["reward", "text"])
@pytest.mark.parametrize("own", [False, True])
def test_a_tie_is_never_explained_as_a_victory(tmp_path: Path, same: str, own: bool):
    prompts = write_set(tmp_path) if own else "tpo"

    def play(messages: Sequence[BaseMessage], index: int) -> str:
        drawn = draft_then_improve(messages, index)
        return "Answer" if same == "text" and drawn.startswith("Answer") else drawn

    model, _ = run(lambda query, response: 1.0, prompts, play)
    (loss,) = losses(model)
    assert "Answer" in loss
    assert "beats" not in loss
    assert "rated" not in loss
    assert "rejected" not in loss


def test_a_set_may_bring_its_own_words_for_a_tie(tmp_path: Path):
    tie = {"user": "nobody beats {chosen}", "input_variables": ["chosen"]}
    folder = write_set(tmp_path, loss_tie=tie)
    model, _ = run(lambda query, response: 1.0, folder)
    assert losses(model) == ["nobody beats Answer (0)"]
    before = load_prompts(folder).digest
    write_set(tmp_path, loss_tie={**tie, "user": "{chosen} beats no other"})
    assert load_prompts(folder).digest != before
    write_set(tmp_path, loss_tie=PAIR["loss"])
    with pytest.raises(PromptError, match="neither answer is better"):
        load_prompts(folder)


def test_every_step_reads_what_the_reward_model_said_and_nothing_when_it_said_nothing():
    def checked(query: str, response: str) -> Score:
        return Score(len(response), f"{len(response)} letters {{chosen}}")

    def longer(messages: Sequence[BaseMessage], index: int) -> str:
        return draft_then_improve(messages, 10**index)

    model, _ = run(checked, script=longer)
    (told,) = losses(model)
    assert "The chosen answer: 11 letters {chosen}\nThe rejected answer: 10 letters" in told
    sent = ["\n".join(m.text for m in messages) for messages, _ in model.calls]
    planned = [text for text in sent if "<report>" in text and text != told]
    assert len(planned) == 2  # the gradient and the update
    assert all("The chosen answer: 11 letters" in text for text in planned)
    assert not any("10 letters" in text for text in planned)
    model, _ = run(by_length, script=longer)
    (silent,) = losses(model)
    assert "report" not in silent
    tied, _ = run(lambda query, response: Score(1, "flat"))
    (alone,) = losses(tied)
    assert "The chosen answer: flat" in alone
    assert "The rejected answer" not in alone


def test_a_critic_that_finds_nothing_to_change_ends_the_run_instead_of_paying_for_copies(
    tmp_path: Path,
):
    agreed = {**PAIR["gradient"], "no_change": "NO CHANGE"}
    folder = write_set(tmp_path, gradient=agreed)

    def content(messages: Sequence[BaseMessage], index: int) -> str:
        return "**No change.**" if "instruct" in messages[-1].text else f"Answer {index}"

    model, out = run(by_length, folder, content)
    assert out["stop_reason"] == "no_change"
    assert not any(messages[-1].text.startswith("write") for messages, _ in model.calls)
    assert out["gradient"] == "**No change.**"
    write_set(tmp_path, update={**PAIR["update"], "no_change": "x"})
    with pytest.raises(PromptError, match=r"no_change.*gradient\.yaml"):
        load_prompts(folder)


async def test_a_run_without_changes_asks_its_critic_again_under_another_seed(
    tmp_path: Path, sqlite_url: str
) -> None:
    folder = write_set(tmp_path, gradient={**PAIR["gradient"], "no_change": "NO CHANGE"})
    agrees = [True]

    def content(messages: Sequence[BaseMessage], index: int) -> str:
        return "No change." if agrees[0] and "instruct" in messages[-1].text else f"Answer {index}"

    model = ScriptedChatModel(replies=content)
    handles: Any = {"model": model, "reward_model": by_length, "prompts": str(folder)}
    kept: Any = {"database": sqlite_url, **handles}
    begun = await aoptimize("Why?", **kept, run_id="r", depth=1, width=2, seed=1)
    assert begun.stop_reason == "no_change"
    calls = len(model.calls)
    with pytest.raises(ConfigurationError, match="resume --seed N"):
        await aextend("r", depth=2, **kept)
    with pytest.raises(ConfigurationError, match="resume --seed N"):
        await aresume("r", max_total_tokens=10**6, **kept)
    assert await aresume("r", **kept) == begun
    assert len(model.calls) == calls
    agrees[0] = False
    result = await aresume("r", seed=2, **kept)
    assert (result.stop_reason, len(result.steps)) == ("depth", 2)
    asked = [messages[-1].text.split()[0] for messages, _ in model.calls[calls:]]
    assert asked[-1] == "write"
    assert result.usage["loss"]["requests"] == 2  # both are paid for


@pytest.mark.parametrize(
    ("prompts", "gives"), [("feedback", False), ("feedback", True), ("tpo", False)]
)
def test_a_set_that_lives_on_reasons_warns_once_of_a_reward_without_any(
    prompts: str, gives: bool, caplog: pytest.LogCaptureFixture
):
    def score(query: str, response: str) -> float:
        return Score(len(response), "It is short." if gives else "")

    for _ in range(2):
        run(score, prompts)
    told = [record.getMessage() for record in caplog.records if "no reason" in record.message]
    assert len(told) == (prompts == "feedback" and not gives)
    assert all("Score(value, reason)" in text and "method 'tpo'" in text for text in told)
