"""Bad values through every field of `tpo serve`: an answer, or one error in OpenAI's form."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.hostile.values import FIELDS, TEXTS, VALUES
from tests.serve.serving import BASE, TPO, Serving
from tpo_graph.context import TPOContext
from tpo_graph.testing import ScriptedChatModel

CHAT = {"model": TPO, "messages": [{"role": "user", "content": "Q"}]}
RESPONSE = {"model": TPO, "input": "Q"}
OF_CHAT = ["model", "messages", "stream", "stream_options", "n", "stop", "temperature", "top_p",
           "max_tokens", "max_completion_tokens", "seed", "logprobs", "response_format", "tools",
           "functions", "tool_choice", "tpo", "metadata", "user", "nope"]  # fmt: skip
OF_RESPONSES = ["model", "input", "stream", "instructions", "temperature", "top_p", "text", "tools",
                "max_output_tokens", "tool_choice", "reasoning", "previous_response_id", "include",
                "background", "store", "metadata", "tpo", "nope"]  # fmt: skip
SENT = [value for value in VALUES if not isinstance(value, bytes)]
INNER = ("Traceback", "TypeError", "KeyError", "AttributeError", "pydantic", "sqlalchemy")


@pytest.fixture
def server(database_url: str) -> Iterator[Serving]:
    model = ScriptedChatModel(replies=["an answer", "a longer answer"])
    prices: dict[str, Any] = {"input_price": 1.0, "output_price": 1.0}
    with Serving(database_url, model=model, depth=0, width=1, **prices) as serving:
        yield serving


@pytest.fixture
def client(server: Serving) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{server.url}/v1", timeout=60) as client:
        yield client


def ask(client: httpx.Client, path: str, body: Any, given: object) -> httpx.Response:
    # As ASCII: half characters travel as escapes, as any client could send them.
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = client.post(path, content=content, headers={"content-type": "application/json"})
    shown = f"{given!r:.200}: {reply.status_code} {reply.text:.500}"
    if reply.status_code != 200:
        assert reply.status_code in (400, 404, 413), shown
        error = reply.json()["error"]
        assert error["type"] == "invalid_request_error", shown
        assert 0 < len(error["message"]) < 3_000, shown
        assert not any(word in reply.text for word in INNER), shown
    else:
        assert "event: error" not in reply.text, shown
    return reply


def test_any_field_of_any_value(client: httpx.Client) -> None:
    for path, whole, fields in (
        ("chat/completions", CHAT, OF_CHAT),
        ("responses", RESPONSE, OF_RESPONSES),
    ):
        for field in fields:
            for value in SENT:
                ask(client, path, {**whole, field: value}, (path, field, value))
                ask(client, path, {**whole, "model": BASE, field: value}, (BASE, field, value))
        for field in {*FIELDS, *TPOContext.model_fields}:
            for value in SENT:
                ask(client, path, {**whole, "tpo": {field: value}}, (path, "tpo", field, value))
        assert ask(client, path, whole, path).status_code == 200


def test_any_text(client: httpx.Client) -> None:
    for name, text in TEXTS.items():
        for path, body in (
            ("chat/completions", {**CHAT, "messages": [{"role": "user", "content": text}]}),
            ("responses", {**RESPONSE, "input": text}),
            ("responses", {**RESPONSE, "instructions": text}),
        ):
            reply = ask(client, path, body, name)
            empty = not text.strip() and "instructions" not in body
            assert reply.status_code == (400 if empty else 200), (name, reply.text[:300])
            for field in ("criteria", "reward_model"):
                ask(client, path, {**body, "tpo": {field: text}}, (name, field))
        headers = {"idempotency-key": text.encode("utf-8", "replace")[:500].hex()}
        assert client.post("responses", json=RESPONSE, headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\xfe", b"null", b"5", b"[]", b'"x"', b"{", b'{"model": 1e999}', b"[" * 100_000,
     b'{"a": ' + b"9" * 5_000 + b"}", b'{"model": "\\ud800"}', b"\xef\xbb\xbf{}"],
)  # fmt: skip
def test_bodies_that_are_no_request(path: str, body: bytes) -> None:
    with Serving(depth=0, width=1) as server, httpx.Client(base_url=f"{server.url}/v1") as client:
        assert ask(client, path, body, body[:50]).status_code in (400, 404)


@pytest.mark.parametrize(
    "messages",
    [[{}], [{"role": "user"}], [{"role": "nope", "content": "x"}], [{"content": "x"}],
     [{"role": "user", "content": None}], [{"role": "user", "content": 5}],
     [{"role": "user", "content": [5]}], [{"role": "user", "content": [{}]}],
     [{"role": "user", "content": [{"type": "image_url"}]}],
     [{"role": "user", "content": [{"type": "image_url", "image_url": 5}]}],
     [{"role": "user", "content": [{"type": "text", "text": 5}]}],
     [{"role": "tool", "content": "x"}, {"role": "user", "content": "Q"}],
     [{"role": "assistant", "tool_calls": 5}, {"role": "user", "content": "Q"}],
     [{"role": "assistant", "tool_calls": [{}]}, {"role": "user", "content": "Q"}],
     [{"role": "assistant", "tool_calls": [{"function": {"name": 5, "arguments": 5}}]},
      {"role": "user", "content": "Q"}],
     [{"role": "system", "content": "x"}], [{"role": 5, "content": "Q"}],
     [{"role": "user", "name": 5, "content": "Q"}], [{"role": "user", "content": {"a": 1}}]],
)  # fmt: skip
def test_messages_of_a_wrong_shape(messages: Any) -> None:
    with Serving(depth=0, width=1) as server, httpx.Client(base_url=f"{server.url}/v1") as client:
        ask(client, "chat/completions", {**CHAT, "messages": messages}, messages)
        ask(client, "chat/completions", {**CHAT, "model": BASE, "messages": messages}, messages)
        ask(client, "responses", {**RESPONSE, "input": messages}, messages)
