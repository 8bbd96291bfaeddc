import json

import pytest
from pydantic import SecretStr

from tpo_graph.errors import ConfigurationError
from tpo_graph.models.connection import connected
from tpo_graph.models.load import load_chat_model
from tpo_graph.redaction import has_hidden, is_ambiguous, redacted
from tpo_graph.rewards import load_reward_model
from tpo_graph.rewards.vllm import VLLMRewardModel
from tpo_graph.store.urls import parse_url

SECRET = "CANARY0123456789"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            "sqlite or postgresql://USER:PASSWORD@HOST/DB",
            "sqlite or postgresql://USER:PASSWORD@HOST/DB",
        ),
        (f"vllm:http://user:{SECRET}@host:8000/#rm", "vllm:http://***@host:8000/#rm"),
        (f"postgresql://user:pa/ss{SECRET}@host/db", "postgresql://***@host/db"),
        (f"vllm:http://user:a#b?{SECRET}@host/#rm", "vllm:http://***@host/#rm"),
        (f"vllm:http://user:{SECRET}@host/#org/model@v1", "vllm:http://***@host/#org/model@v1"),
        ("vllm:http://host:8000/#org/model@v1", "vllm:http://host:8000/#org/model@v1"),
        (f"http://host/v1?api_key={SECRET}&x=1", "http://host/v1?api_key=***&x=1"),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer ***"),
        (f"key sk-{SECRET}!", "key ***!"),
        ("openai:gpt-5-mini", "openai:gpt-5-mini"),
        ("local:./key-value/model@main", "local:./key-value/model@main"),
        ({"api_key": SECRET, "timeout": 5}, {"api_key": "***", "timeout": 5}),
        ({"api_key_env": "MY_KEY"}, {"api_key_env": "MY_KEY"}),
        ({"api_key": SecretStr(SECRET)}, {"api_key": "***"}),
        (
            {"default_headers": {"X-Tenant": SECRET, "Accept": "a/b"}},
            {"default_headers": {"X-Tenant": "***", "Accept": "a/b"}},
        ),
        (
            {"extra_body": {"top_k": 5, "options": [{"hf_token": SECRET}]}},
            {"extra_body": {"top_k": 5, "options": [{"hf_token": "***"}]}},
        ),
    ],
)
def test_what_is_shown_holds_no_secret(given: object, shown: object) -> None:
    assert redacted(given) == shown
    assert SECRET not in json.dumps(redacted(given))
    assert has_hidden(redacted(given)) == ("***" in json.dumps(shown))
    assert redacted(redacted(given)) == redacted(given)


@pytest.mark.parametrize("password", [f"{SECRET}/x", f"x#{SECRET}", f"1/{SECRET}", f"x@{SECRET}"])
def test_a_password_that_could_be_taken_for_a_host_is_refused_and_not_shown(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://user:{password}@127.0.0.1:9"

    def in_environment() -> object:
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        return load_chat_model("openai:m")

    for use in (
        in_environment,
        lambda: load_chat_model(connected("openai:m", {"base_url": url}, "model")),
        lambda: load_reward_model(f"vllm:{url}#m"),
        lambda: load_reward_model(f"sglang:{url}#m"),
        lambda: VLLMRewardModel(url, "m"),
        lambda: parse_url(url.replace("http", "postgresql") + "/db"),
    ):
        with pytest.raises(ConfigurationError, match='"/" is %2F') as caught:
            use()
        assert SECRET not in str(caught.value)


def test_urls_that_mean_one_thing_are_taken() -> None:
    for url in ("http://u:p%2F@h:1/v1", "http://h:1#org/m@v1", "http://u@h", "u:p/x@y", ""):
        assert not is_ambiguous(url)
