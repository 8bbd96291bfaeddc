"""The server with its checkpoints, and ours, on PostgreSQL."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from tests.openai_server import OpenAIServer
from tests.studio.conftest import scripted
from tests.studio.server import StudioServer

pytestmark = pytest.mark.slow

QUERY: Any = {"messages": [{"role": "user", "content": "Say hello."}]}


def test_a_run_and_its_history(models: OpenAIServer, tmp_path: Path, postgres_url: str):
    environment = {**scripted(models), "TPO_DATABASE_URL": postgres_url}
    with StudioServer(tmp_path, environment) as server, server.client() as client:
        thread = client.threads.create()["thread_id"]
        out: Any = client.runs.wait(thread, "tpo", input=QUERY, durability="sync")
        assert out["stop_reason"] == "depth"
        assert (
            len(client.threads.get_history(thread, limit=50)) == 15
        )  # the input, then a state after each step
        assert "BlockingError" not in server.output()
    engine = sqlalchemy.create_engine(postgres_url)
    with engine.connect() as database:
        runs = sqlalchemy.text("select run_id from tpo_runs where thread_id = :thread")
        assert database.execute(runs, {"thread": thread}).scalars().all() == [out["run_id"]]
    engine.dispose()
    assert not (tmp_path / "tpo.db").exists()
