"""What a run is made of is declared once, and every way to run it takes all of it."""

import inspect
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

import pytest

import tpo_graph
from tpo_graph import ChatTPO, TPOMiddleware, aoptimize, create_tpo_graph, optimize
from tpo_graph.agents.inputs import ChatInputs
from tpo_graph.batch.output import awrite_output, write_output
from tpo_graph.batch.ray_engine import RayEngine
from tpo_graph.context import NamedSettings, RunOptions
from tpo_graph.errors import ConfigurationError
from tpo_graph.models.connection import ROLES
from tpo_graph.session.rescore import arescore, rescore
from tpo_graph.session.setup import KEYS, Inputs, InputsAgain, Setup, StoredInputs
from tpo_graph.settings import CALLED, Settings
from tpo_graph.strategies import RunSettings
from tpo_graph.testing import ScriptedChatModel, prefer_longer

OPTIONS = {f"{role}_options" for role in ROLES}


def _arguments(function: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function).parameters


def test_the_declarations_for_callers_for_runs_and_for_the_command_line_are_equal():
    assert {each.name for each in fields(Setup)} - {"choices"} == KEYS - OPTIONS
    assert {CALLED.get(name, name) for name in KEYS} <= set(Settings.model_fields)
    assert StoredInputs.__annotations__.keys() == Inputs.__annotations__.keys() - {"database"}
    assert InputsAgain.__annotations__.keys() <= {*KEYS, "strategies"}


def test_what_type_checkers_know_of_settings_is_what_a_run_takes():
    model = {name: field.annotation for name, field in RunOptions.model_fields.items()}
    assert get_type_hints(NamedSettings) == model
    chosen = {"select", "pick", "stop"}  # which may be objects here
    typed = get_type_hints(RunSettings)
    assert typed.keys() - {"on_failure"} == model.keys()
    assert all(typed[name] == model[name] for name in model.keys() - chosen)
    assert get_type_hints(ChatInputs).keys() == {*model, *ChatTPO.model_fields}


MODELS: dict[str, Any] = {"model": ScriptedChatModel(), "reward_model": prefer_longer}
STORED = {"database": "sqlite:///runs.db"}


@pytest.mark.parametrize(
    ("called", "given", "meant"),
    [
        (tpo_graph.optimize, {"query": "q", **MODELS, "depht": 1}, "depth"),
        (tpo_graph.optimize, {"query": "q", **MODELS, "databse": "x"}, "database"),
        (tpo_graph.optimize, {"query": "q", "modle": 1}, "model"),
        (tpo_graph.optimize_many, {"queries": ["q"], **MODELS, "on_evnt": 1}, "on_event"),
        (tpo_graph.run_batch, {"rows": [], "nam": "n", **STORED, **MODELS}, "name"),
        (tpo_graph.resume, {"run_id": "r", **STORED, "max_tokns": 3}, "max_tokens"),
        (tpo_graph.extend, {"run_id": "r", **STORED, "depht": 3}, "depth"),
        (create_tpo_graph, {**MODELS, "depht": 1}, "depth"),
        (create_tpo_graph, {**MODELS, "promts": "tpo"}, "prompts"),
        (create_tpo_graph, {**MODELS, "defaults": {"depht": 1}}, "depth"),
        (ChatTPO, {**MODELS, "depht": 1}, "depth"),
        (ChatTPO, {**MODELS, "critera": "x"}, "criteria"),
        (ChatTPO, {**MODELS, "settings": {"critera": "x"}}, "criteria"),
        (TPOMiddleware, {"reward_model": prefer_longer, "depht": 1}, "depth"),
        (TPOMiddleware, {"reward_model": prefer_longer, "modle": 1}, "model"),
    ],
)
def test_a_misspelt_name_is_one_error_that_says_what_was_meant(
    called: Any, given: dict[str, Any], meant: str
):
    with pytest.raises(ConfigurationError, match=f"did you mean '{meant}'"):
        called(**given)


def test_settings_are_spelled_the_same_in_a_graph_a_chat_model_and_an_agent():
    asked = {"messages": [("user", "q")]}
    state = create_tpo_graph(**MODELS, depth=0, width=3).invoke(asked)
    assert (len(state["samples"]), len(state["history"])) == (3, 1)
    chat = ChatTPO(**MODELS, depth=0, width=3, criteria="Be brief.", seed=4)
    assert chat.settings == {"criteria": "Be brief.", "seed": 4}
    assert chat.invoke("q").response_metadata["tpo"]["iteration"] == 0


@pytest.mark.parametrize("name", ["optimize", "optimize_many", "run_batch", "resume", "extend"])
def test_help_and_editors_see_every_input_of_a_run_in_both_forms(name):
    again = name in ("resume", "extend")
    sync, shown = getattr(tpo_graph, name), _arguments(getattr(tpo_graph, f"a{name}"))
    assert (InputsAgain.__annotations__.keys() if again else KEYS) <= shown.keys()
    assert list(_arguments(sync).values()) == list(shown.values())
    assert (sync.__name__, sync.__module__) == (name, getattr(tpo_graph, f"a{name}").__module__)
    required = {n for n in ("model", "reward_model") if shown[n].default is inspect.Parameter.empty}
    assert required == (set() if again else {"model", "reward_model"})
    assert shown["audit_fallback"].default is False


def test_a_worker_elsewhere_takes_the_same_inputs_and_sync_forms_the_same_arguments():
    assert _arguments(RayEngine.__init__).keys() >= KEYS
    assert _arguments(rescore) == _arguments(arescore)
    assert _arguments(write_output) == _arguments(awrite_output)


def test_what_is_configured_reaches_a_run_whole():
    given = {
        name: f"the {name}" for name in ("model", "reward_model", "critic", "audit", "prompts")
    }
    more = {"database_url": "sqlite:///x.db", "score_cache": False, "audit_fallback": True}
    settings = Settings.load({**given, **more, "depth": 7, "audit_options": {"timeout": 9}})
    setup, context = Setup.given(settings.inputs())
    assert setup == Setup(
        **given, database="sqlite:///x.db", reuse_scores=False, audit_fallback=True
    )
    assert (context.depth, setup.audit.options) == (7, {"timeout": 9})


async def test_a_missing_model_and_a_wrong_name_are_refused_before_anything_runs():
    with pytest.raises(TypeError, match="'model'"):
        optimize("q", reward_model="local:x")  # pyright: ignore[reportCallIssue]
    with pytest.raises(ConfigurationError, match="detph"):
        await aoptimize("q", model=ScriptedChatModel(), reward_model="judge:x", detph=3)  # pyright: ignore[reportCallIssue]
