"""Copies of a `ChatTPO`, as frameworks make them: they work, and share what is at work."""

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from pydantic import BaseModel

from tests.agents.fakes import ToolCallingModel
from tpo_graph import ChatTPO
from tpo_graph.cache import MemoryCache
from tpo_graph.errors import ConfigurationError
from tpo_graph.testing import ScriptedChatModel, prefer_longer


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


class Joke(BaseModel):
    setup: str


class Watch(BaseCallbackHandler):
    """Holds what no copy can be made of."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.events = 0

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.events += 1


class Locked:
    """A reward model that holds what no copy can be made of."""

    name = "locked-1"

    def __init__(self) -> None:
        self.lock = threading.Lock()

    async def score(self, conversation: Any, responses: Any) -> list[float]:
        return [float(len(response)) for response in responses]


class Never:
    name = "never"

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, history: Any) -> bool:
        return False


def chat(**options: Any) -> ChatTPO:
    options = {"model": ToolCallingModel(), "reward_model": Locked(), "depth": 1, **options}
    return ChatTPO(**{"width": 2, **options})


COPIES: dict[str, Callable[[ChatTPO], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda made: made.model_copy(),
    "deep model_copy": lambda made: made.model_copy(deep=True),
    "in another's deepcopy": lambda made: copy.deepcopy({"model": [made]})["model"][0],
    "bound": lambda made: copy.deepcopy(made.bind(depth=1)).bound,
}


@pytest.mark.parametrize("how", COPIES)
async def test_a_copy_does_all_that_a_chat_model_does(how: str):
    watch, model = Watch(), ToolCallingModel()
    cache = MemoryCache()
    made = chat(
        model=model, callbacks=[watch], tpo_cache=cache, settings={"stop": Never()}, tags=["mine"]
    )
    copied: ChatTPO = COPIES[how](made)
    assert copied is not made
    assert copied.model is model

    about = copied.invoke("Say hello.").response_metadata["tpo"]
    assert (about["iteration"], about["reward_model"]) == (1, "locked-1")
    assert len(await cache.candidates(about["run_id"])) == 4
    assert watch.events > 0
    (part,) = [part async for part in copied.astream("Say hello.")]
    assert part.text.startswith("Answer!")

    turn = copied.bind_tools([weather]).invoke("How is the weather in 'Rome'?")
    assert [call["args"] for call in turn.tool_calls] == [{"city": "Rome"}]
    shaped = copied.with_structured_output(Joke, method="function_calling", depth=0)
    assert shaped.invoke("A 'knock knock' joke.") == Joke(setup="knock knock")
    field = copied.configurable_fields(depth=ConfigurableField(id="depth"))
    answer = field.with_config(configurable={"depth": 0}).invoke("Say hello.")
    assert answer.response_metadata["tpo"]["iteration"] == 0


def test_a_deep_copys_own_settings_are_its_own():
    made = chat(settings={"criteria": "Be brief."}, tags=["mine"])
    copied = copy.deepcopy(made)
    copied.settings["criteria"] = "Be kind."
    copied.tags.append("theirs")  # type: ignore[union-attr]
    assert (made.settings, made.tags) == ({"criteria": "Be brief."}, ["mine"])


@pytest.mark.parametrize("deep", [False, True])
def test_a_copy_with_other_values_runs_with_them(deep: bool):
    model = ToolCallingModel()
    made = chat(model=model)
    other = ScriptedChatModel(replies=["from another"])
    changed = made.model_copy(
        update={"model": other, "reward_model": prefer_longer, "depth": 0, "criteria": "Be kind."},
        deep=deep,
    )
    answer = changed.invoke("Say hello.")
    assert answer.text == "from another"
    assert "prefer_longer" in answer.response_metadata["tpo"]["reward_model"]
    assert changed.settings == {"criteria": "Be kind."}
    assert (made.settings, model.calls) == ({}, [])
    assert made.invoke("Say hello.").text.startswith("Answer!")
    assert "Be kind." not in str(model.calls)


def test_what_is_assigned_later_is_used():
    made = chat(depth=0)
    made.model = ScriptedChatModel(replies=["from another"])
    assert made.invoke("Say hello.").text == "from another"


@pytest.mark.parametrize(
    ("update", "why"),
    [
        ({"depht": 3}, "did you mean 'depth'"),
        ({"depth": -1}, "depth=-1"),
        ({"criterai": "Be kind."}, "did you mean 'criteria'"),
        ({"reward_model": "nothing"}, "nothing"),
        ({"prompts": "none/"}, "none/"),
    ],
)
def test_a_copy_with_wrong_values_is_refused(update: dict[str, Any], why: str):
    with pytest.raises(ConfigurationError, match=why):
        chat().model_copy(update=update)
