"""A local OpenAI server and a ChatOpenAI that talks to it."""

from collections.abc import Callable, Iterator

import pytest
from langchain_openai import ChatOpenAI

from tests.openai_server import OpenAIServer


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as running:
        yield running


@pytest.fixture
def chat(server: OpenAIServer) -> Callable[..., ChatOpenAI]:
    def make(**options: object) -> ChatOpenAI:
        given = {"model": "m", "base_url": server.url, "api_key": "sk-canary-0123456789", **options}
        return ChatOpenAI(**given)

    return make
