"""`tpo compare` and `tpo analyze`, through the commands: HTTP to a local server, a fake reward."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.openai_server import Behaviour, OpenAIServer
from tpo_graph.cli import tpo
from tpo_graph.errors import ConfigurationError, TPOError
from tpo_graph.evaluation.results import load as load_comparison
from tpo_graph.files.shipped import data_folder
from tpo_graph.rewards import load
from tpo_graph.rewards.function import FunctionReward

MODELS = ["--model", "openai:tiny", "--reward-model", "local:longer"]
SMALL = ["--depth", "1", "--width", "2", *MODELS]


def respond(messages: list[dict[str, Any]], seed: int | None, index: int) -> str:
    prompt = messages[-1]["content"]
    if "VERDICT" in messages[0]["content"]:
        a, b = (messages[1]["content"].split(f"<{x}-")[1].splitlines()[1] for x in "AB")
        return json.dumps({"reasons": "", "verdict": "A+" if len(a) > len(b) else "B+"})
    text = f"answer {seed} " + "so " * (len(prompt) * (1 + index) % 7)
    if "</improved_answer>" in prompt:
        return f"<improved_answer>better {text}</improved_answer>"
    return text


@pytest.fixture(scope="module")
def real_server() -> Iterator[OpenAIServer]:
    with OpenAIServer(respond) as server:
        yield server


@pytest.fixture
def server(
    real_server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> OpenAIServer:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", real_server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    signs = {"local:longer": 1.0, "local:shorter": -1.0}

    def named(name: str) -> FunctionReward:
        return FunctionReward(lambda query, text: signs[name] * len(text), name=name)

    monkeypatch.setattr(load, "load_reward_model", named)
    (tmp_path / "prompts.jsonl").write_text('"Why?"\n"[bold]How[/]?"\n')
    real_server.calls.clear()
    real_server.rule = None
    return real_server


def run(*arguments: str) -> Result:
    return CliRunner().invoke(tpo, arguments)


def compare(*arguments: str) -> Result:
    return run("compare", "prompts.jsonl", "-o", "out", "--seeds", "2", *SMALL, *arguments)


def test_tables_json_and_the_file(server: OpenAIServer):
    audits = ["--judge", "openai:big", "--audit-reward-model", "local:shorter"]
    result = compare(*audits)
    assert result.exit_code == 0, result.output
    table = result.stdout.splitlines()
    assert any(line.startswith("TPO D1-N2 – best-of-4") for line in table)
    for text in ("2 prompts, 2 seeds", "Revision D1-N2", "By seed", "judge", "audit difference"):
        assert text in result.stdout
    assert "tpo/seed-1: 2 of 2 done" in result.stderr
    found = load_comparison("out")
    assert found.name.endswith("/out")
    assert found.audit_reward_model == "local:shorter"
    rates = {rate.by: rate for rate in found.pairs[0].win_rates}
    assert rates["judge"].wins + rates["judge"].losses + rates["judge"].ties == 4
    assert (rates["reward"].wins, rates["reward"].losses) == (
        rates["audit"].losses,
        rates["audit"].wins,
    )
    calls = len(server.calls)
    again = compare(*audits, "--json")
    assert (
        json.loads(again.stdout)["methods"]
        == json.loads(Path("out/comparison.json").read_text())["methods"]
    )
    assert len(server.calls) == calls


def test_another_comparison_is_not_overwritten(server: OpenAIServer):
    compare("--method", "tpo")
    before = Path("out/comparison.json").read_text()
    calls = len(server.calls)
    for arguments, said in [(["--limit", "1"], "prompts=2, not 1"), (["--seed", "5"], "seeds=")]:
        error = compare("--method", "tpo", *arguments).exception
        assert isinstance(error, ConfigurationError)
        assert said in str(error)
    assert Path("out/comparison.json").read_text() == before
    assert len(server.calls) == calls
    assert compare("--method", "tpo", "--limit", "1", "--fresh").exit_code == 0


def test_a_configuration_names_methods_and_their_prompts(server: OpenAIServer):
    shutil.copytree(data_folder("prompts") / "tpo", "mine")
    Path("tpo.toml").write_text('[compare]\nmethods = ["tpo", "other=./mine"]\n')
    assert compare().exit_code == 0
    assert [each.method.label for each in load_comparison("out").methods] == [
        "TPO D1-N2",
        "other D1-N2",
    ]
    for wrong in ("method = 'tpo'", "methods = 'tpo'"):
        Path("tpo.toml").write_text(f"[compare]\n{wrong}\n")
        error = compare().exception
        assert isinstance(error, ConfigurationError)
        assert "methods" in str(error)


def test_a_judge_that_says_nothing_is_shown(server: OpenAIServer):
    server.rule = lambda call: (
        Behaviour(contents=["I cannot say."]) if call.params["model"] == "big" else None
    )
    result = compare("--judge", "openai:big", "--method", "tpo", "--method", "best-of-1")
    assert result.exit_code == 0, result.output
    assert "no verdict, twice" in result.stdout
    rate = load_comparison("out").pairs[0].win_rates[-1]
    assert (rate.failed, rate.wins, rate.losses) == (4 - rate.ties, 0, 0)
    assert rate.failed > 0
    assert f"({rate.failed} failed)" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (
            ["curves", *SMALL, "--baseline", "openai:other"],
            "openai:other unrefined",
        ),
        (["stability", "--seeds", "2", *SMALL], "Stability over 2 runs"),
        (["grid", "--widths", "1,2", *SMALL], "width 2"),
        (["best-of-n", "--sizes", "3,6", *SMALL], "TPO D1-N2 – best-of-3"),
    ],
)
def test_an_analysis_in_one_command(server: OpenAIServer, arguments: list[str], shown: str):
    name, *rest = arguments
    result = run("analyze", name, "prompts.jsonl", "-o", "out", *rest)
    assert result.exit_code == 0, result.output
    assert shown in result.stdout
    assert load_comparison("out").kind == name


def test_curves_and_the_grid_go_to_the_papers_depth(server: OpenAIServer):
    result = run("analyze", "curves", "prompts.jsonl", "-o", "out", *MODELS, "--limit", "1")
    assert result.exit_code == 0, result.output
    assert load_comparison("out").result("tpo").method.label == "TPO D5-N5"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "none.jsonl", "-o", "out", *SMALL], "none.jsonl"),
        (["compare", "prompts.jsonl", "-o", "out"], "no model is configured"),
        (["compare", "prompts.jsonl", "-o", "out", *SMALL, "--method", "dpo"], "'dpo'"),
        (["compare", "prompts.jsonl", "-o", "out", *SMALL, "--judge", "nope:x"], "nope:x"),
        (["compare", "prompts.jsonl", "-o", "out", *SMALL, "--database", "none"], "database"),
        (["compare", "prompts.jsonl", "-o", "out", *SMALL, "--audit-fallback"], "audit_fallback"),
        (["compare", "prompts.jsonl", "-o", "out", *SMALL, "--audit", "local:longer"], "optimised"),
        (["analyze", "grid", "prompts.jsonl", "-o", "out", *SMALL, "--widths", "5;6"], "'5;6'"),
    ],
)
def test_what_is_wrong_is_said_before_a_call(server: OpenAIServer, arguments: list[str], said: str):
    result = run(*arguments)
    assert result.exit_code != 0
    assert said in (str(result.exception) + result.output)
    assert isinstance(result.exception, ConfigurationError | SystemExit)
    assert server.calls == []


def test_nothing_answered_is_an_error_that_says_how_to_go_on(server: OpenAIServer):
    server.rule = lambda call: Behaviour(status=400, error={"message": "not today"})
    result = compare()
    assert isinstance(result.exception, TPOError)
    assert "not today" in str(result.exception)
    assert "--retry-failed" in str(result.exception)
    server.rule = None
    assert compare("--retry-failed").exit_code == 0
