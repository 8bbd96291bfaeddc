"""The real clients: LangChain, openai for Node and LiteLLM; openai for Python is all around here.

The last two are run where they are there: Node with `openai` in reach (`NODE_PATH` names the
`node_modules` it is in), and a Python with `litellm` (`TPO_TEST_LITELLM_PYTHON`, else this one).
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_openai import ChatOpenAI

from tests.openai_server import OpenAIServer
from tests.serve.serving import TPO, Serving
from tests.serve.test_formats import MODEL, City, respond
from tests.serve.test_formats import serving as formatted

CLIENTS = Path(__file__).parent / "clients"
QUESTION = "Why is the sky blue?"


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with Serving() as serving:
        yield serving


def chat(server: Serving, **options: Any) -> ChatOpenAI:
    given: dict[str, Any] = {"model": TPO, "api_key": "any", "max_retries": 0, **options}
    return ChatOpenAI(base_url=f"{server.url}/v1", **given)


@pytest.mark.parametrize("responses", [False, True])
def test_langchain(server: Serving, responses: bool):
    client = chat(server, use_responses_api=responses)
    made = client.invoke(QUESTION)
    assert "!" in made.text
    assert made.usage_metadata is not None
    assert made.usage_metadata.get("output_token_details", {}).get("reasoning")
    parts = list(client.stream(QUESTION))
    assert "".join(str(part.text) for part in parts) == made.text
    assert len(parts) > 2


def test_langchain_gets_structured_output_that_was_improved():
    with OpenAIServer(respond) as upstream, formatted(upstream) as server:
        client: Any = chat(server, model=MODEL)
        asked = client.with_structured_output(City, method="json_schema")
        assert asked.invoke("A city?") == City(name="Oslooooooooooo", people=717_710)


def told_by(command: list[str], server: Serving) -> dict[str, Any]:
    """What a client's script prints."""
    done = subprocess.run(
        [*command, f"{server.url}/v1", TPO], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def has(*command: str) -> bool:
    """Whether a command is there and ends well."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, timeout=120).returncode == 0


def test_openai_for_node(server: Serving):
    if not has("node", "-e", "require('openai')"):
        pytest.skip("there is no node, or no openai in NODE_PATH")
    told = told_by(["node", str(CLIENTS / "openai_node.cjs")], server)
    assert told["models"][0] == TPO
    assert told["whole"] == told["streamed"] == told["response"]
    assert "1st revision" in told["progress"]
    assert told["tokens"] > 0
    assert told["run"]
    assert told["refused"] == ["BadRequestError", 400]


@pytest.mark.slow
def test_litellm(server: Serving):
    python = os.environ.get("TPO_TEST_LITELLM_PYTHON", sys.executable)
    if not has(python, "-c", "import litellm"):
        pytest.skip("there is no Python with litellm")
    told = told_by([python, str(CLIENTS / "litellm_client.py")], server)
    assert told["whole"] == told["streamed"]
    assert told["reasoning"] == told["progress"]
    assert "1st revision" in told["progress"]
    assert told["tokens"] > 0
    assert told["refused"] == ["BadRequestError", 400]
