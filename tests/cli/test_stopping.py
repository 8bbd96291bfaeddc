"""Signals while a server stalls, and what is left on standard error when a command ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.openai_server import Behaviour, Call, OpenAIServer
from tpo_graph.cli import tpo

VERDICT = '{"reasons": "x", "scores": {"correct": 5, "helpful": 5, "clear": 5}}'


def reply(messages: list[dict[str, Any]], seed: Any, index: int) -> str:
    if "You judge" in messages[0]["content"]:
        return VERDICT
    return f"<improved_answer>text {seed} {index}</improved_answer>"


def command(server: OpenAIServer, *words: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "k"}
    return subprocess.Popen(
        [sys.executable, "-c", "from tpo_graph.cli import main; main()", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_server_that_stalls_holds_a_stopping_command_no_longer_than_the_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    database = f"sqlite:///{tmp_path / 'tpo.db'}"
    spec = ["--model", "openai:m", "--reward-model", "judge:openai:m", "--database", database]

    def stall(call: Call) -> Behaviour | None:
        critic = "judge" not in call.messages[0]["content"] and len(call.messages) > 1
        return Behaviour(hang=True) if critic else None

    with OpenAIServer(reply, rule=stall) as server:
        running = command(server, "run", "Hi", *spec, "--depth", "1", "--grace", "0.5")
        until = time.monotonic() + 60
        while not any(stall(call) for call in server.calls) and time.monotonic() < until:
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        started = time.monotonic()
        _, told = running.communicate(timeout=30)
        assert time.monotonic() - started < 10
        assert running.returncode == 128 + signal.SIGTERM
        assert "for up to 0.5 s" in told
        assert "longer than 0.5 s were cut off" in told
        assert "Traceback" not in told
        assert "Unclosed" not in told
        # What was paid stays kept: only the call that stalled is made again.
        again = told.split("Resume with: tpo ")[1].split()
        server.rule = None
        server.calls.clear()
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "k")
        resumed = CliRunner().invoke(tpo, again)
        assert resumed.stdout.strip(), resumed.output
        first = [
            call for call in server.calls if call.messages == [{"content": "Hi", "role": "user"}]
        ]
        assert first == []


def test_a_command_that_fails_leaves_one_line_on_standard_error():
    with OpenAIServer(rule=lambda _: Behaviour(reset=True)) as server:
        words = ["--model", "openai:m", "--reward-model", "judge:openai:m", "--database", "none"]
        failed = command(server, "run", "Hi", *words, "--model-options", '{"max_retries": 0}')
        _, told = failed.communicate(timeout=60)
    assert failed.returncode == 1
    assert len(told.splitlines()) == 1, told
