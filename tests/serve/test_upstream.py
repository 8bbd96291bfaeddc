"""What the model's server may do: the client gets an answer, or an error in OpenAI's form."""

import json
import threading
from typing import Any

import httpx
import pytest

from tests.openai_server import Behaviour, OpenAIServer
from tests.serve.serving import ASKED
from tests.serve.test_runs import MODEL, respond, serving, wait_until

JSON = {"response_format": {"type": "json_object"}}
TOOLS = {"tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}]}
HALF = "half \ud83d of it"


def completion(*choices: Any) -> Behaviour:
    head = {"id": "1", "object": "chat.completion", "created": 1, "model": "policy"}
    return Behaviour(body={**head, "choices": list(choices)})


@pytest.mark.parametrize(
    "reply",
    [
        Behaviour(body=[]),
        Behaviour(truncate=True),
        completion(),
        completion({"index": 0, "finish_reason": "stop"}),
        completion({"index": 0, "finish_reason": "stop", "message": None}),
    ],
)
def test_a_reply_that_is_no_completion_is_the_servers_fault(reply: Behaviour):
    with OpenAIServer(rule=lambda _: reply) as upstream, serving(upstream, None) as server:
        for extra in ({"model": "policy"}, {"model": MODEL, **TOOLS}, {"model": MODEL, **JSON}):
            told = server.post({"messages": ASKED, **extra})
            assert told.status_code == 502, told.text
            assert told.json()["error"]["type"] == "server_error"
            assert "'policy' failed" in told.json()["error"]["message"]


def test_a_reply_that_breaks_off_is_not_the_clients_fault():
    cut = Behaviour(cut=True)
    with OpenAIServer(rule=lambda _: cut) as upstream, serving(upstream, None) as server:
        for extra in ({"model": "policy"}, {"model": MODEL}, {"model": MODEL, **JSON}):
            assert server.post({"messages": ASKED, **extra}).status_code == 502


def test_half_a_character_is_replaced(sqlite_url: str):
    """As a server sends it that cuts a text in the middle of an emoji."""
    called = {"name": "look", "arguments": json.dumps({"at": HALF})}
    calls = [{"id": "1", "type": "function", "function": called}]
    message = {"role": "assistant", "content": HALF}
    with OpenAIServer(lambda *_: HALF) as upstream, serving(upstream, sqlite_url) as server:
        for extra in ({"model": "policy"}, {"model": MODEL}, {"model": MODEL, **JSON}):
            for stream in (False, True):
                told = server.post({"messages": ASKED, "stream": stream, **extra})
                assert told.status_code == 200, told.text
                assert "\ufffd" in told.text
                assert '"message": "an error' not in told.text
        upstream.script.append(
            completion({"index": 0, "finish_reason": "tool_calls",
                        "message": {**message, "tool_calls": calls}})
        )  # fmt: skip
        told = server.post({"model": MODEL, "messages": ASKED, **TOOLS})
        assert told.json()["choices"][0]["message"]["content"] == "half \ufffd of it"


@pytest.mark.parametrize(("given", "told"), [("7", "7"), ("inf", "10"), ("soon", "10")])
def test_a_wait_that_the_models_server_asks_for_passes_on(given: str, told: str):
    late = Behaviour(status=429, headers={"Retry-After": given})
    with OpenAIServer(rule=lambda _: late) as upstream, serving(upstream, None) as server:
        for model in (MODEL, "policy"):
            refused = server.post({"model": model, "messages": ASKED})
            assert (refused.status_code, refused.headers["retry-after"]) == (429, told)


def test_a_seed_in_quotes_is_a_number():
    with OpenAIServer(respond, rule=lambda _: Behaviour(choices=1)) as upstream:
        with serving(upstream, None) as server:
            asked = {"model": MODEL, "messages": ASKED, "seed": "7", **JSON}
            assert server.post(asked).status_code == 200
        assert [call.params["seed"] for call in upstream.calls] == [7, 8]


@pytest.mark.slow
def test_a_server_that_stops_tells_who_waits_for_the_base_model():
    told: list[httpx.Response] = []
    with OpenAIServer(rule=lambda _: Behaviour(hang=True)) as upstream:
        with serving(upstream, None, options={"drain": 0}) as server:
            asked = {"model": "policy", "messages": ASKED}
            asking = threading.Thread(target=lambda: told.append(server.post(asked)))
            asking.start()
            wait_until(lambda: upstream.calls)
        asking.join(60)
    (reply,) = told
    assert reply.status_code == 503
    assert "shutting down" in reply.json()["error"]["message"]
