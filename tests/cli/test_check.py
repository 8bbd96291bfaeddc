"""`tpo check`: the table, JSON, exit codes and usage errors."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner, Result

from tests.check.test_policy import obedient
from tests.openai_server import OpenAIServer
from tests.tiny_models import classifier
from tpo_graph.cli import tpo
from tpo_graph.errors import ConfigurationError


class Message:
    def __init__(self, text: str) -> None:
        self.text = text


def reply(messages, seed, index) -> str:
    return obedient([Message(m["content"]) for m in messages], f"{seed}{index}")


@pytest.fixture
def server(monkeypatch):
    with OpenAIServer(reply) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
        yield server


def check(*arguments: str) -> Result:
    return CliRunner().invoke(tpo, ["check", *arguments])


def test_a_good_policy_is_a_table_and_exit_code_0(server):
    result = check("--model", "openai:tiny", "--context-window", "200000", "--width", "2")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["part", "check", "result", "seen"]
    assert any("follows instructions" in line and "ok" in line for line in lines)
    assert lines[-1] == "11 ok, 1 skip"
    assert result.stderr == ""


def test_json_and_exit_code_1_for_a_random_reward_model():
    result = check("--reward-model", f"local:{classifier()}", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert {"part", "name", "status", "detail"} == set(found[0])
    assert any(f["status"] == "fail" and f["part"] == "reward model" for f in found)
    assert not any(f["part"] == "policy" for f in found)


def test_through_the_entry_point_the_exit_code_is_the_same():
    command = [sys.executable, "-c", "from tpo_graph.cli import main; main()", "check"]
    done = subprocess.run(
        [*command, "--reward-model", "local:/no/such/model"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "/no/such/model" in done.stdout
    assert done.stderr == ""


def test_nothing_to_check_and_nothing_to_compare(server):
    assert isinstance(check().exception, ConfigurationError)
    result = check("--model", "openai:tiny", "--against", "local:x")
    assert result.exit_code == 2
    assert "--reward-model" in result.stderr
    assert server.calls == []
