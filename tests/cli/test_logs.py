"""The library's log on standard error, and the settings file that is found by itself."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.openai_server import OpenAIServer
from tpo_graph.cli import tpo

SETTINGS = """
model = "openai:m"
reward_model = "python:./reward.py#score"
depth = 0
width = 2
"""


@pytest.fixture
def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "tpo.toml").write_text(SETTINGS)
    (tmp_path / "reward.py").write_text("def score(query, response):\n    return len(response)\n")
    logger = logging.getLogger("tpo_graph")
    before = logger.handlers, logger.level
    with OpenAIServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
        yield
    logger.handlers, logger.level = before


@pytest.mark.usefixtures("configured")
def test_json_logs_have_the_numbers_of_each_step_as_fields():
    done = CliRunner().invoke(tpo, ["--log-json", "run", "Hi."], catch_exceptions=False)
    records = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [record["step"] for record in records] == ["sample", "reward_score", "select"]
    assert records[0]["responses"] == 2
    assert len(records[1]["rewards"]) == 2
    assert records[2]["best_reward"] == max(records[1]["rewards"])
    assert records[2]["stop_reason"] == "depth"
    assert {record["level"] for record in records} == {"info"}


@pytest.mark.usefixtures("configured")
def test_log_lines_hold_no_secrets_and_no_control_characters():
    CliRunner().invoke(tpo, ["--log-level", "info", "run", "Hi."], catch_exceptions=False)
    [handler] = logging.getLogger("tpo_graph").handlers
    said = "\x1b[2Jhttps://me:sk-secret@host/"
    line = handler.format(logging.makeLogRecord({"levelname": "INFO", "msg": said}))
    assert "sk-secret" not in line
    assert "\x1b" not in line


@pytest.mark.usefixtures("configured")
def test_without_the_file_that_is_found_by_itself_no_model_is_configured():
    done = CliRunner().invoke(tpo, ["run", "--config", "none", "Hi."])
    assert "no model is configured" in str(done.exception)
