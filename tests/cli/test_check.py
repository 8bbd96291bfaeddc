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


def test_the_demo_is_checked_by_its_own_probes(root):
    # By the package's own, which are foreign to it, it fails.
    config = root / "examples" / "offline" / "tpo.toml"
    result = check("--config", str(config), "--seed", "7", "--json")
    assert result.exit_code == 0, result.output
    found = {(f["part"], f["name"]): f for f in json.loads(result.stdout)}
    assert found["policy", "improves answers"]["status"] == "ok"
    assert found["reward model", "prefers the obviously better answer"]["status"] == "ok"


def test_probes_of_the_wrong_form_are_one_clear_error(tmp_path):
    (tmp_path / "mine.toml").write_text('question = "?"\nprobes = []\npairs = [{question = 1}]')
    result = check("--reward-model", "openai:x", "--probes", "mine.toml")
    assert isinstance(result.exception, ConfigurationError)
    assert "mine.toml" in str(result.exception)
    (tmp_path / "tpo.toml").write_text('reward_model = "openai:x"\n[check]\nprobe = "mine.toml"')
    result = check("--config", "tpo.toml")
    assert "it knows one name" in str(result.exception)
