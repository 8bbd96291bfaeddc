"""Servers that tests of the Ray engine ask from this process and from a cluster's."""

from collections.abc import Iterator

import pytest

from tests.batch.ray_rig import LengthServer
from tests.kills.harness import respond
from tests.openai_server import OpenAIServer


@pytest.fixture
def reward() -> Iterator[str]:
    """The name of a reward model that costs nothing."""
    with LengthServer() as server:
        yield server.spec


@pytest.fixture
def policy(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """The server that `POLICY` asks, in this process and where `CARRIED` is taken."""
    with OpenAIServer(respond) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        yield server
