"""Every role has a connection of its own, and what is secret in it goes nowhere."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.openai_server import OpenAIServer
from tpo_graph import optimize, optimize_many
from tpo_graph.errors import ConfigurationError
from tpo_graph.rewards import load_reward_model
from tpo_graph.session.resume import extend, resume
from tpo_graph.settings import Settings

KEYS = {"model": "CANARY-policy", "critic": "CANARY-critic", "reward_model": "CANARY-judge"}
VERDICT = '{"reasons": "x", "scores": {"correct": 5, "helpful": 5, "clear": 5}}'


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, OpenAIServer]]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)

    def reply(messages: Any, seed: Any, index: int) -> str:
        return f"<improved_answer>text {index}</improved_answer>"

    with (
        OpenAIServer(reply) as policy,
        OpenAIServer(reply) as critic,
        OpenAIServer(lambda *_: VERDICT) as judge,
    ):
        yield {"model": policy, "critic": critic, "reward_model": judge}


def connections(servers: dict[str, OpenAIServer]) -> dict[str, Any]:
    return {
        f"{role}_options": {
            "base_url": server.url,
            "api_key": f"{KEYS[role]}\n",
            "default_headers": {"x-role": role},
            "extra_body": {"top_k": 5},
            "timeout": 30,
            "max_retries": 0,
        }
        for role, server in servers.items()
    }


NAMES = {"model": "openai:p", "critic": "openai:c", "reward_model": "judge:openai:j"}


def test_each_role_has_its_own_server_key_headers_and_body(
    servers: dict[str, OpenAIServer], tmp_path: Path
) -> None:
    file = tmp_path / "tpo.db"
    database = f"sqlite:///{file}"
    given = {**NAMES, **connections(servers)}
    result = optimize("Hi", **given, database=database, depth=1, width=2)
    for role, server in servers.items():
        assert server.calls
        for call in server.calls:
            assert call.headers["authorization"] == f"Bearer {KEYS[role]}"
            assert call.headers["x-role"] == role
            assert call.params["top_k"] == 5
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"CANARY" not in stored
    assert b"top_k" in stored
    # What was not stored must be given again.
    with pytest.raises(ConfigurationError, match=r"model_options again.*api_key_env"):
        extend(result.run_id, depth=2, database=database)
    assert resume(result.run_id, database=database, **connections(servers)).run_id == result.run_id


def test_a_run_whose_options_hold_no_secret_is_resumed_without_giving_them_again(
    servers: dict[str, OpenAIServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "CANARY-env")
    monkeypatch.setenv("OPENAI_API_KEY", "other")
    options = {"base_url": servers["model"].url, "api_key_env": "MY_KEY"}
    given: dict[str, Any] = {"model": "openai:p", "model_options": options, "width": 2}
    database = f"sqlite:///{tmp_path / 'tpo.db'}"
    result = optimize("Hi", **given, reward_model=length, database=database, depth=1)
    before = len(servers["model"].calls)
    extend(result.run_id, depth=2, database=database, reward_model=length)
    assert len(servers["model"].calls) > before
    assert {c.headers["authorization"] for c in servers["model"].calls} == {"Bearer CANARY-env"}
    (many,) = optimize_many(["Hi"], **given, reward_model=length, depth=0)
    assert not isinstance(many, Exception)


def length(query: str, response: str) -> float:
    return float(len(response))


def test_the_file_the_environment_and_the_command_line_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "tpo.toml"
    config.write_text(
        'model = "openai:m"\ncritic = "openai:c"\n[model_options]\ntimeout = 5\n'
        "[critic_options]\nextra_body = {chat_template_kwargs = {enable_thinking = false}}\n"
    )
    monkeypatch.setenv("TPO_CRITIC_OPTIONS", '{"timeout": 7}')
    given = {"audit": "judge:openai:a", "audit_options": '{"max_retries": 9}'}
    settings = Settings.load(given, config)
    assert settings.model == "openai:m"
    found = {r: getattr(settings, r).options for r in ("model", "critic", "audit")}
    assert found == {"model": {"timeout": 5}, "critic": {"timeout": 7}, "audit": {"max_retries": 9}}
    assert json.dumps(settings.policy_name()) == '"openai:m"'


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model_options": '{"api_key": "CANARY"'}, "options are a JSON object"),
        ({"model_options": '["CANARY"]'}, "model_options.* not valid"),
        ({"critic_options": {"api_key": "CANARY"}}, "no model is given as critic"),
        ({"model_options": {"temperature": 1}}, "temperature="),
    ],
)
def test_wrong_options_are_one_clear_error_without_what_they_hold(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message) as error:
        Settings.load({"model": "openai:m", **given})
    assert "CANARY" not in str(error.value)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (
            "openai:m",
            {"base_ulr": "x", "api_key": "k"},
            r"no option 'base_ulr' .*did you mean 'base_url'",
        ),
        ("openai:m", {"api_key_env": "NOT_SET_AT_ALL"}, "'NOT_SET_AT_ALL'.*no such variable"),
        ("openai:m", {"api_key": "CANARY", "max_retries": "many"}, "max_retries"),
        ("local:/nowhere", {"timeout": 5}, "over no connection"),
        (object(), {"timeout": 5}, "given by its name"),
        ("openai:m", "CANARY", "must be a mapping"),
    ],
)
def test_options_that_fit_nothing_are_refused(
    model: Any, options: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match=message) as error:
        optimize("Hi", model=model, model_options=options, reward_model=length)
    assert "CANARY" not in str(error.value) or options == "CANARY"


def test_reward_servers_have_options_too() -> None:
    from tpo_graph.models.connection import connected

    options = {"base_url": "http://127.0.0.1:9", "api_key": "k", "max_retries": 0, "timeout": 1}
    model = load_reward_model(connected("vllm:http://host#rm", options, "reward_model"))
    assert model.name == "vllm:http://127.0.0.1:9#rm"
    with pytest.raises(ConfigurationError, match=r"no option \['top_k'\]"):
        load_reward_model(connected("sglang:http://host#rm", {"top_k": 1}, "reward_model"))
    with pytest.raises(ConfigurationError, match="'length-penalty'"):
        load_reward_model(connected("length-penalty:x.toml", {"timeout": 1}, "reward_model"))
