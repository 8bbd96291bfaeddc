"""One model server and one LangGraph server for a module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.openai_server import OpenAIServer
from tests.studio.scripted import respond
from tests.studio.server import ROOT, StudioServer

TOKENS = {"ada": "token-of-ada", "bo": "token-of-bo"}


def scripted(models: OpenAIServer) -> dict[str, str]:
    """The environment in which the command line, too, would use these models."""
    return {
        "OPENAI_API_KEY": "none",
        "OPENAI_BASE_URL": models.url,
        "TPO_MODEL": "openai:scripted",
        "TPO_REWARD_MODEL": "judge:openai:judge",
        "TPO_WIDTH": "3",
    }


@pytest.fixture(scope="module")
def models() -> Iterator[OpenAIServer]:
    with OpenAIServer(respond) as server:
        yield server


@pytest.fixture(scope="module")
def server(
    models: OpenAIServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StudioServer]:
    folder: Path = tmp_path_factory.mktemp("studio")
    (folder / "tpo.toml").write_text("depth = 1\ntemperature = 0.5\n", encoding="utf-8")
    environment = {
        **scripted(models),
        "TPO_CONFIG": "tpo.toml",
        "STUDIO_TOKENS": ",".join(f"{name}={token}" for name, token in TOKENS.items()),
    }
    auth = {"path": f"{ROOT}/examples/studio_auth.py:auth", "disable_studio_auth": True}
    with StudioServer(folder, environment, auth=auth) as server:
        yield server
        assert "BlockingError" not in server.output()
