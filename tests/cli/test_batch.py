"""`tpo batch`, through the command: files in, files out, and what it says meanwhile."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from tests.kills.harness import respond
from tests.openai_server import Behaviour, Call, OpenAIServer
from tpo_graph.cli import batch_progress, tpo
from tpo_graph.errors import ConfigurationError, RunNotFoundError, StoreError
from tpo_graph.rewards import load
from tpo_graph.rewards.function import FunctionReward
from tpo_graph.store.cache import SqlCache
from tpo_graph.testing import prefer_longer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    monkeypatch.setattr(load, "load_reward_model", lambda name: FunctionReward(prefer_longer))
    with OpenAIServer(respond) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-fake")
        yield server


@pytest.fixture
def source() -> Path:
    path = Path("in.csv")
    path.write_text("id,prompt,topic\na,Why?,x\nb,Refuse this?,y\nc,And why?,z\n")
    return path


def batch(*arguments: str, output: str = "out.jsonl") -> Result:
    models = ["--model", "openai:fake", "--reward-model", "local:length", "--depth", "1"]
    return CliRunner().invoke(tpo, ["batch", *arguments, "--output", output, *models])


def rows(output: str = "out.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(output).read_text().splitlines()]


def refuse(call: Call) -> Behaviour | None:
    wanted = any("Refuse" in str(message["content"]) for message in call.messages)
    return Behaviour(status=400, error={"message": "no", "code": None}) if wanted else None


@pytest.mark.usefixtures("source")
def test_a_file_in_a_file_out_and_failed_rows_tried_again(server: OpenAIServer) -> None:
    server.rule = refuse
    Path("costs.toml").write_text(
        'currency = "EUR"\n[models."openai:fake"]\ninput_price = 1.0\noutput_price = 2.0\n'
    )
    result = batch("in.csv", "--costs", "costs.toml")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert [row["id"] for row in rows()] == ["a", "b", "c"]
    assert [row["topic"] for row in rows()] == ["x", "y", "z"]
    assert [row["error"] is None for row in rows()] == [True, False, True]
    lines = result.stderr.splitlines()
    assert lines[0] == "loading models"
    assert lines[1].endswith("0/3 done, 0 failed, 0.00 q/s, 0 tokens")
    (last,) = [line for line in lines if " 2/3 done, 1 failed, " in line]
    for part in (" q/s, ", " tokens, cost ", " EUR, gain +"):
        assert part in last
    assert "ETA" not in last
    assert any(line.split()[:2] == ["update", "openai:fake"] for line in lines), lines
    assert "2 of 3 rows answered: out.jsonl" in lines
    assert "--retry-failed" in lines[-1]

    server.rule = None
    asked = len(server.calls)
    assert batch("in.csv").exit_code == 1
    assert len(server.calls) == asked
    again = batch("in.csv", "--retry-failed")
    assert again.exit_code == 0, again.output
    assert len(server.calls) == asked + 4
    assert all(row["error"] is None for row in rows())


@pytest.mark.usefixtures("server", "source")
def test_changed_settings_are_refused_unless_fresh() -> None:
    assert batch("in.csv", "--seed", "1", "--limit", "2").exit_code == 0
    before = rows()
    assert len(before) == 2
    refused = batch("in.csv", "--seed", "2")
    assert isinstance(refused.exception, ConfigurationError)
    assert "was begun with seed=1, not 2" in str(refused.exception)
    assert rows() == before
    assert batch("in.csv", "--seed", "1").exit_code == 0
    assert rows()[:2] == before
    assert batch("in.csv", "--seed", "2", "--fresh").exit_code == 0
    assert len(rows()) == 3


@pytest.mark.usefixtures("source")
def test_mistakes_are_found_before_anything_is_asked(server: OpenAIServer) -> None:
    Path("theirs.json").write_text("precious")
    for arguments, output, said in [
        (["gone.jsonl"], "out.jsonl", "there is no file 'gone.jsonl'"),
        (["in.csv"], "out.txt", "ends in none of"),
        (["in.csv"], "in.csv", "is the input"),
        (["in.csv"], "theirs.json", "exists, and this database has no batch"),
        (["in.csv", "--database", "none"], "out.jsonl", "must be kept in a database"),
        (["in.csv", "--depth", "-1"], "out.jsonl", "depth"),
    ]:
        result = CliRunner().invoke(
            tpo,
            ["batch", *arguments, "-o", output, "--model", "openai:x", "--reward-model", "local:y"],
        )
        assert isinstance(result.exception, ConfigurationError)
        assert said in str(result.exception)
    assert server.calls == []
    assert Path("theirs.json").read_text() == "precious"


@pytest.mark.usefixtures("source", "server")
def test_a_database_that_fails_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object, **__: object) -> None:
        raise StoreError("the database failed: the disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(SqlCache, "record", full)
        error = batch("in.csv").exception
    assert type(error) is StoreError
    assert str(error).endswith("Finished steps are kept. Run the same command again to resume.")
    wrong = batch("in.csv", "--database", "sqlite:///no/folder/tpo.db").exception
    assert "resume" not in str(wrong)


@pytest.mark.usefixtures("source", "server")
def test_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Console(stderr=True, force_terminal=True, width=120, highlight=False)
    monkeypatch.setattr(batch_progress, "console", terminal)
    shown = batch("in.csv").stderr
    assert "3/3" in shown
    assert "0 failed" in shown
    assert "done," not in shown


def batches(*arguments: str) -> Result:
    return CliRunner().invoke(tpo, ["batches", *arguments])


@pytest.mark.usefixtures("source")
def test_batches_are_listed_shown_and_deleted(server: OpenAIServer) -> None:
    server.rule = refuse
    batch("in.csv", "--name", "mine")
    batch("in.csv", "--name", "other", output="other.jsonl")
    found = [json.loads(line) for line in batches("list", "--json").stdout.splitlines()]
    assert [(b["name"], b["total"], b["finished"], b["failed"]) for b in found] == [
        ("other", 3, 2, 1),
        ("mine", 3, 2, 1),
    ]
    assert batches("list").stdout.splitlines()[1].split()[0] == "other"
    shown = batches("show", "mine").stdout
    assert "rows: 1 failed, 2 finished" in shown
    assert "1 x PolicyError" in shown
    whole = json.loads(batches("show", "mine", "--json").stdout)
    assert [row["id"] for row in whole["errors"]] == ["b"]
    runs = ["runs", "list", "--json", "--batch"]
    batch("in.csv", output="third.jsonl")  # named after its output, which is how it may be called
    assert "rows: 1 failed, 2 finished" in batches("show", "third.jsonl").stdout
    assert len(CliRunner().invoke(tpo, [*runs, "third.jsonl"]).stdout.splitlines()) == 3
    assert "3 rows and 3 runs deleted" in batches("rm", "third.jsonl", "--runs").stderr
    assert len(CliRunner().invoke(tpo, [*runs, "mine"]).stdout.splitlines()) == 3
    assert (
        "3 rows and 3 runs would be deleted" in batches("rm", "mine", "--runs", "--dry-run").stderr
    )
    assert "3 rows and 3 runs deleted" in batches("rm", "mine", "--runs").stderr
    assert "3 rows deleted" in batches("rm", "other").stderr
    assert batches("list", "--json").stdout == ""
    everything = CliRunner().invoke(tpo, ["runs", "list", "--json"]).stdout
    assert len(everything.splitlines()) == 3
    assert isinstance(batches("show", "mine").exception, RunNotFoundError)


@pytest.mark.usefixtures("source")
def test_a_second_signal_ends_it_at_once_and_quietly(server: OpenAIServer) -> None:
    server.rule = lambda call: Behaviour(hang=True)
    main = "from tpo_graph.cli import main; main()"
    models = ["--model", "openai:fake", "--reward-model", "vllm:http://127.0.0.1:9#m"]
    command = [sys.executable, "-c", main, "batch", "in.csv", "-o", "out.jsonl", *models]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while len(server.calls) < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said
    lines = said.splitlines()
    assert lines[-1].startswith("Stopped. Resume with: tpo ")
    assert len(lines) <= 4, said
