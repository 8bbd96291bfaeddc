"""What `make studio` starts: the server on the models that come with the repository."""

from pathlib import Path
from typing import Any

import pytest

from tests.studio.server import StudioServer

pytestmark = pytest.mark.slow


def test_a_run_on_the_embedded_models(root: Path, tmp_path: Path):
    config = {"TPO_CONFIG": str(root / "examples" / "offline" / "tpo.toml")}
    with StudioServer(tmp_path, config) as server, server.client() as client:
        asked = "I am Nia Gray. I have a late parcel. What about the parcel?"
        question: Any = {"messages": [{"role": "user", "content": asked}]}
        thread = client.threads.create()["thread_id"]
        out: Any = client.runs.wait(thread, "tpo", input=question, context={"depth": 1})
        assert out["history"][0]["n"] == 5
        assert out["chosen"]["reward"] >= out["history"][0]["max"]
        assert out["messages"][-1]["content"] == out["chosen"]["response"]
        assert "BlockingError" not in server.output()
