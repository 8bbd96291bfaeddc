"""`tpo run`, through its entry point: real HTTP to a local server, a real tiny reward model."""

import io
import json
import logging
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.openai_server import Behaviour, Call, OpenAIServer
from tests.tiny_models import classifier
from tpo_graph.cli import main, tpo


def respond(messages: list[dict[str, Any]], seed: int | None, index: int) -> str:
    prompt = messages[-1]["content"]
    text = f"answer {seed} {index} {len(prompt)}"
    if "</improved_answer>" in prompt:
        return f"<improved_answer>better {text}</improved_answer>"
    return f"critique {text}" if "<chosen_answer>" in prompt else text


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    with OpenAIServer(respond) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
        yield server


@pytest.fixture(scope="session")
def reward() -> str:
    return f"local:{classifier()}"


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    """Run the command in this process; expected errors come back as exceptions to look at."""
    return CliRunner().invoke(tpo, ["run", *arguments], input=stdin)


def models(reward: str) -> list[str]:
    return ["--model", "openai:tiny", "--reward-model", reward]


def test_the_answer_goes_to_stdout_and_everything_else_to_stderr(server: OpenAIServer, reward: str):
    result = run("Hello?", "--depth", "1", "--width", "3", "--seed", "5", *models(reward))
    assert result.exit_code == 0, result.output
    answer = result.stdout.strip()
    assert "answer" in answer
    assert len(answer.splitlines()) == 1
    table = result.stderr.splitlines()
    assert any(line.split()[:2] == ["0", "3"] for line in table)
    assert any(line.split()[:2] == ["1", "3"] for line in table)
    assert "4 requests" in result.stderr
    assert len(server.calls) == 4


def test_json_holds_the_whole_run(server: OpenAIServer, reward: str):
    result = run("Hello?", "--json", "--depth", "1", "--width", "2", *models(reward))
    run_of = json.loads(result.stdout)
    assert {"run_id", "response", "reward", "stop_reason", "history", "usage"} <= set(run_of)
    assert len(run_of["candidates"]) == 4
    assert run_of["reward"] == max(c["reward"] for c in run_of["candidates"])


@pytest.mark.parametrize("as_json", [False, True])
def test_a_late_failure_prints_the_best_answer_and_the_way_to_resume(
    server: OpenAIServer, reward: str, as_json: bool
):
    limited = "max_tokens=50 is too large"

    def refuse(call: Call) -> Behaviour | None:
        update = "</improved_answer>" in call.messages[-1]["content"]
        small = call.params["max_completion_tokens"] <= 40
        return None if small or not update else Behaviour(status=400, error=limited)

    server.rule = refuse
    options = ["--depth", "1", "--width", "2", "--max-tokens", "50", *models(reward)]
    shown = ["--json"] if as_json else []
    result = run("Hello?", *options, *shown)
    assert result.exit_code == 1
    answer = json.loads(result.stdout)["response"] if as_json else result.stdout.strip()
    assert answer.startswith("answer")
    warning = result.stderr.splitlines()[-1]
    assert warning.startswith("Warning: the run ended early, with the best response so far. Policy")
    assert limited in warning
    again = shlex.split(warning.partition("with: ")[2])
    assert again[:3] == ["tpo", "runs", "resume"]

    listed = CliRunner().invoke(tpo, ["runs", "list"]).stdout.splitlines()[-1].split()
    assert listed[0] == again[3]
    assert "failed" in listed
    assert limited in CliRunner().invoke(tpo, ["runs", "show", again[3]]).stdout

    before = len(server.calls)
    result = CliRunner().invoke(tpo, [*again[1:], "--max-tokens", "40", *shown])
    assert result.exit_code == 0, result.output
    if as_json:
        assert json.loads(result.stdout)["error"] is None
    assert len(server.calls) - before == 1


def test_the_query_comes_from_an_argument_a_file_or_stdin(
    server: OpenAIServer, reward: str, tmp_path: Path
):
    odd = 'what {people} "paste"\n<SEP> 🦜'
    (tmp_path / "q.txt").write_text(odd + "\n", encoding="utf-8")
    common = ["--depth", "0", "--width", "1", *models(reward)]
    for arguments, stdin in (
        ([odd], None),
        (["--file", str(tmp_path / "q.txt")], None),
        (["-"], odd),
        ([], odd),
    ):
        result = run(*arguments, *common, stdin=stdin)
        assert result.exit_code == 0, result.output
        assert server.calls[-1].messages[-1]["content"] == odd


def test_a_config_file_with_paths_relative_to_it(server: OpenAIServer, reward: str, tmp_path: Path):
    folder = Path(reward.removeprefix("local:"))
    config = folder.parent / "tpo-test.toml"
    config.write_text(
        f'model = "openai:tiny"\nreward_model = "local:./{folder.name}"\ndepth = 0\nwidth = 2\n'
    )
    try:
        result = run("hi", "--config", str(config), "--json", "--width", "3")
        assert result.exit_code == 0, result.output
        assert len(json.loads(result.stdout)["candidates"]) == 3
    finally:
        config.unlink()


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["hi"], ["no model is configured", "--model", "TPO_MODEL", "make demo"]),
        (["hi", "--model", "openai:x"], ["no reward model", "--reward-model", "TPO_REWARD_MODEL"]),
        (["hi", "--depth", "-1"], ["depth=-1 is not valid", "at least 0"]),
        (["hi", "--width", "many"], ["width='many'", "a whole number"]),
        (["hi", "--config", "no.toml"], ["'no.toml'", "cannot be read"]),
        (["hi", "--file", "no.txt"], ["no.txt"]),
        ([""], ["the query is empty: ''"]),
        (["hi", "--model", "nope:x", "--reward-model", "local:/nope"], ["'nope:x'"]),
        (["hi", "--model", "openai:x", "--reward-model", "local:/nope"], ["'/nope'"]),
        (["hi", "--model", "openai:x", "--reward-model", "gpt"], ["'gpt'"]),
    ],
)
def test_wrong_usage_is_one_clear_error_and_exit_code_2(
    arguments: list[str],
    shown: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(sys, "argv", ["tpo", "run", *arguments])
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(logging.lastResort, "formatter", None)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with pytest.raises(SystemExit) as ended:
        main()
    out, told = capsys.readouterr()
    assert ended.value.code == 2
    assert out == ""
    assert "Traceback" not in told
    for text in shown:
        assert text in told


def test_a_file_that_is_not_text(tmp_path: Path):
    (tmp_path / "q.txt").write_bytes(b"\xff\xfe\x00bad")
    result = run("--file", str(tmp_path / "q.txt"))
    assert result.exit_code == 2
    assert "not UTF-8" in result.output


@pytest.mark.slow
def test_a_dead_server_is_one_line_and_exit_code_1(reward: str):
    code = "from tpo_graph.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "hi", *models(reward)],
        capture_output=True,
        text=True,
        check=False,
        env={
            "OPENAI_API_KEY": "sk-canary",
            "OPENAI_BASE_URL": "http://127.0.0.1:9",
            "HF_HUB_OFFLINE": "1",
            "PATH": "",
        },
        cwd=Path(__file__).parent.parent.parent,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "openai:tiny" in done.stderr
    assert "sk-canary" not in done.stderr


def test_an_audit_is_shown_and_in_the_json(server: OpenAIServer, reward: str):
    audit = ["--audit", f"local:{classifier(seed=5)}", "--audit-fallback"]
    common = ["Hello?", "--depth", "1", "--width", "2", *models(reward), *audit]
    result = run(*common)
    assert result.exit_code == 0, result.output
    assert "audit by local:" in result.stderr
    audited = json.loads(run(*common, "--json").stdout)["audit"]
    assert {"reward_model", "first", "final", "overoptimized", "fell_back"} == set(audited)
