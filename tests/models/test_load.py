import threading
import warnings
from typing import Any

import pytest
from langchain.chat_models import init_chat_model
from langchain_core.output_parsers import StrOutputParser
from langchain_openai import AzureChatOpenAI, ChatOpenAI

from tests.openai_server import OpenAIServer
from tpo_graph.errors import ConfigurationError
from tpo_graph.models.load import load_chat_model, model_name
from tpo_graph.testing import ScriptedChatModel

KEY = "sk-canary-0123456789"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


def test_a_model_is_returned_as_it_is() -> None:
    model = ScriptedChatModel()
    assert load_chat_model(model) is model


def test_openai_models_wait_long_and_retry_a_bounded_number_of_times() -> None:
    model = load_chat_model("openai:gpt-5-mini")
    assert isinstance(model, ChatOpenAI)
    assert model.request_timeout.read == 3600
    assert model.request_timeout.connect == 30
    assert model.max_retries == 4
    assert not model.use_responses_api


def test_the_environment_names_server_and_key(
    monkeypatch: pytest.MonkeyPatch, server: OpenAIServer
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    load_chat_model("openai:qwen").invoke("hi")
    assert server.calls[0].params["model"] == "qwen"
    assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_name_is_loaded_once_until_the_environment_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(load_chat_model("openai:once")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert load_chat_model("openai:once") is not found[0]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("nowhere:model", "no provider is known for the model 'nowhere:model'"),
        ("mystery-model", "no provider is known for the model 'mystery-model'"),
        ("openai:", "no model is named in 'openai:'"),
        ("", "not a model: ''"),
        (None, "not a model: None"),
        ("ollama:llama3", "pip install langchain-ollama"),
        ("gemini-2.5-flash", "pip install langchain-google"),
        ("openai:gpt-5-pro", "Responses API only"),
        ("azure_openai:x", "cannot be used"),
    ],
)
def test_a_name_that_cannot_be_loaded_is_one_clear_error(spec: str, says: str) -> None:
    with warnings.catch_warnings(record=True) as seen, pytest.raises(ConfigurationError) as error:
        load_chat_model(spec)
    text = str(error.value)
    assert says in text
    assert repr(spec) in text
    assert "\n" not in text
    assert KEY not in text
    assert not seen


def test_a_missing_key_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigurationError, match=r"no API key for 'openai:x'. Set OPENAI_API_KEY"):
        load_chat_model("openai:x")
    monkeypatch.setenv("OPENAI_API_KEY", "now")
    assert load_chat_model("openai:x")


def test_names_are_stable_and_hold_no_secrets() -> None:
    assert model_name(load_chat_model("openai:gpt-5-mini")) == "openai:gpt-5-mini"
    url = f"http://user:{KEY}@127.0.0.1:9/v1"
    assert model_name(ChatOpenAI(model="a/b", base_url=url, api_key=KEY)) == "openai:a/b"
    azure = AzureChatOpenAI(
        azure_deployment="d", azure_endpoint="http://127.0.0.1:9", api_key=KEY, api_version="v"
    )
    assert KEY not in model_name(azure)
    assert model_name(ScriptedChatModel()) == "ScriptedChatModel"


async def test_a_model_with_something_bound_is_the_model_with_that_as_its_fields() -> None:
    for made in (
        ScriptedChatModel(replies=["a"]).bind(temperature=0.25),
        ScriptedChatModel(replies=["a"]).with_config(tags=["x"]).bind(temperature=0.25),
    ):
        model = load_chat_model(made)
        assert isinstance(model, ScriptedChatModel)
        assert model.temperature == 0.25
    configurable = init_chat_model("openai:m", configurable_fields=("temperature",), seed=5)
    loaded = load_chat_model(configurable)
    assert isinstance(loaded, ChatOpenAI)
    assert (loaded.model_name, loaded.seed) == ("m", 5)
    with_extras = load_chat_model(ChatOpenAI(model="m").bind(reasoning_split=True))
    assert isinstance(with_extras, ChatOpenAI)
    assert with_extras.model_kwargs == {"reasoning_split": True}


@pytest.mark.parametrize(
    "given",
    [
        ScriptedChatModel().with_fallbacks([ScriptedChatModel()]),
        ScriptedChatModel().bind(tools=[{"name": "t"}]),
        ScriptedChatModel().bind(no_field=5),
        ScriptedChatModel() | StrOutputParser(),
        init_chat_model(configurable_fields=("model",)),
        5,
    ],
)
def test_what_is_no_model_is_refused_in_one_short_line(given: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_chat_model(given)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)
