"""The test server as a process of its own: what the crash tests rely on."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest


def test_the_log_tells_finished_requests_from_started_ones(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    arguments = ["-m", "tests.openai_server", "--log", str(log)]
    body = {"model": "m", "n": 2, "messages": [{"role": "user", "content": "x"}]}
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip() + "/chat/completions"
        try:
            choices = httpx.post(url, json=body).json()["choices"]
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(url, json=body | {"test_behaviour": {"hang": True}}, timeout=0.3)
        finally:
            process.kill()
    assert [choice["index"] for choice in choices] == [0, 1]
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(record["event"], record["id"]) for record in records] == [
        ("start", 0),
        ("end", 0),
        ("start", 1),
    ]
    assert records[0]["messages"] == body["messages"]
