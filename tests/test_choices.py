"""A run's context chooses among the models that the graph's author named, and no others."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from tpo_graph import create_tpo_graph
from tpo_graph.errors import ConfigurationError
from tpo_graph.settings import Settings
from tpo_graph.testing import ScriptedChatModel, prefer_longer

QUERY = {"messages": [("user", "Why?")]}


def prefer_shorter(query: str, response: str) -> float:
    return -float(len(response))


def graph(**choices: Any) -> Any:
    model = ScriptedChatModel(replies=["a long answer", "short"])
    return create_tpo_graph(model, prefer_longer, defaults={"depth": 0, "width": 2}, **choices)


def answer(made: Any, **context: Any) -> str:
    return made.invoke(QUERY, context=context)["messages"][-1].text


def test_a_context_chooses_by_name():
    other = ScriptedChatModel(replies=["from the other model"])
    made = graph(reward_models={"brief": prefer_shorter}, policies={"other": other})
    assert answer(made) == "a long answer"
    assert answer(made, reward_model="brief") == "short"
    assert answer(made, policy="other") == "from the other model"
    with pytest.raises(ConfigurationError, match=r"reward_model='breif'.*there are: 'brief'"):
        answer(made, reward_model="breif")


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    """A server that notes who comes, as an attacker would run it."""
    seen: list[str] = []

    class Note(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(str(self.headers))
            self.send_error(500)

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Note)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("choices", [{}, {"reward_models": {"brief": prefer_shorter}}])
def test_a_spec_in_a_context_reaches_no_server_and_no_file(
    choices: Any,
    listener: tuple[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
):
    url, seen = listener
    monkeypatch.setenv("VLLM_API_KEY", "sk-canary")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    (tmp_path / "private.toml").write_text("canary in a file")
    made = graph(**choices)
    specs = [
        f"vllm:{url}#rm",
        f"sglang:{url}#rm",
        f"ensemble:{tmp_path}/private.toml",
        f"length-penalty:{tmp_path}/private.toml",
        f"local:{tmp_path}",
        f"python:{tmp_path}/private.toml#score",
        "judge:openai:gpt-5",
    ]
    for spec in specs:
        for kind in ("reward_model", "policy", "critic"):
            with pytest.raises(ConfigurationError) as caught:
                made.invoke(QUERY, context={kind: spec, "depth": 1})
            assert "is not a choice of this graph" in str(caught.value)
            assert "canary" not in str(caught.value)
    assert seen == []


def test_an_operator_names_the_choices_in_the_file(tmp_path: Any):
    file = tmp_path / "tpo.toml"
    file.write_text('[reward_models]\nbrief = "local:./models/brief"\nfast = "vllm:http://h#m"\n')
    settings = Settings.load({}, file)
    assert settings.reward_models == {
        "brief": f"local:{tmp_path}/models/brief",
        "fast": "vllm:http://h#m",
    }


def test_a_misspelt_setting_is_told_with_the_right_one():
    with pytest.raises(ConfigurationError, match="no setting 'dept'; did you mean 'depth'"):
        answer(graph(), dept=1)
