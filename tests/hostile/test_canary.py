"""A password in a spec is used, and stands nowhere afterwards: database, output, errors."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import create_engine, text

from tests.openai_server import Behaviour
from tests.reward_server import RewardServer
from tests.tiny_models import classifier
from tpo_graph import optimize, resume, run_batch
from tpo_graph.cli import tpo
from tpo_graph.cli.stopping import resume_command, same_command
from tpo_graph.errors import ConfigurationError, RewardError
from tpo_graph.rows import make_rows
from tpo_graph.testing import ScriptedChatModel

CANARY = "CANARY0x5eed"
SHORT: dict[str, Any] = {"depth": 0, "width": 2}


@pytest.fixture
def reward() -> Iterator[tuple[RewardServer, str]]:
    with RewardServer("vllm", classifier()) as server:
        yield server, f"vllm:http://user:{CANARY}@127.0.0.1:{server.port}#rm"


def whole(url: str) -> str:
    """Everything that the database holds."""
    if url.startswith("sqlite"):
        folder = Path(url.removeprefix("sqlite:///")).parent
        return "".join(file.read_bytes().decode("latin-1") for file in folder.glob("tpo.db*"))
    engine = create_engine(url)
    with engine.connect() as connection:
        names = connection.scalars(
            text("SELECT tablename FROM pg_tables WHERE schemaname='public'")
        )
        rows = [
            row
            for name in list(names)
            for row in connection.execute(text(f"SELECT t::text FROM {name} t")).scalars()
        ]
    engine.dispose()
    # Bytes are shown as hexadecimal digits.
    return "\n".join(rows).replace(CANARY.encode().hex(), CANARY)


def test_a_password_in_a_spec_stays_in_memory(
    database_url: str, reward: tuple[RewardServer, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tpo_graph")
    server, spec = reward
    model = ScriptedChatModel(replies=["long answer", "short"])
    given: dict[str, Any] = {"model": model, "reward_model": spec, "database": database_url}
    answered = optimize("Why?", run_id="done", **given, **SHORT)
    assert server.calls[-1][2]["authorization"].startswith("Basic ")

    server.script.append(Behaviour(status=401, error=f"no such user:{CANARY}"))
    with pytest.raises(RewardError) as refused:
        optimize("Who?", run_id="failed", **given, **SHORT)
    rows = list(make_rows([{"prompt": "Why?"}, {"prompt": "When?"}]))
    assert run_batch(rows, name="b", **given, **SHORT).failed == 0
    # Another password is the same model.
    changed = {**given, "reward_model": spec.replace(CANARY, "CANARY0x5eed2")}
    assert run_batch(rows, name="b", **changed, **SHORT).done == 2

    with pytest.raises(ConfigurationError, match=r"\*\*\*.*--reward-model SPEC") as asked:
        resume("failed", database=database_url, model=model)
    assert resume("failed", database=database_url, model=model, reward_model=spec).response
    other = spec.replace("#rm", "#other")
    with pytest.raises(ConfigurationError) as differs:
        run_batch(
            make_rows([{"prompt": "Why?"}]), name="b", **{**given, "reward_model": other}, **SHORT
        )

    told = [str(error.value) for error in (refused, asked, differs)]
    for command in (
        ["runs", "list", "--json"],
        ["runs", "show", answered.run_id, "--json"],
        ["runs", "export"],
        ["batches", "show", "b", "--json"],
        ["batches", "list", "--json"],
        ["runs", "list", "--reward-model", spec],
    ):
        shown = CliRunner().invoke(tpo, [*command, "--database", database_url])
        assert shown.exit_code == 0, shown.output
        told.append(shown.output)
    assert CANARY not in "\n".join([*told, caplog.text])
    assert "done" in told[-1] or answered.run_id[:4] in told[-1]
    assert CANARY not in whole(database_url)


def test_no_hint_to_resume_holds_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = f"vllm:http://user:{CANARY}@host#rm"
    said = resume_command(
        "r", f"postgresql+psycopg://u:{CANARY}@h/d", reward_model=spec, model="a:b"
    )
    assert said == (
        "tpo runs resume r --database 'postgresql+psycopg://u:***@h/d' "
        "--reward-model 'vllm:http://***@host#rm'"
    )
    options = f'{{"api_key": "{CANARY}", "timeout": 5}}'
    words = ["tpo", "batch", "--fresh", "--reward-model", spec, "--model-options", options]
    monkeypatch.setattr(sys, "argv", [*words, f"--critic-options={options}"])
    assert CANARY not in same_command()
    assert "--fresh" not in same_command()
