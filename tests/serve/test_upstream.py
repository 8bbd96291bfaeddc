"""What the model's server may do: the client gets an answer, or an error in OpenAI's form."""

import json
import signal
import threading
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.openai_server import Behaviour, Call, OpenAIServer
from tests.serve.serving import ASKED, Serving
from tests.serve.test_runs import MODEL, process, respond, serving, wait_until
from tests.tiny_models import causal_lm

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


def test_a_prompt_that_is_too_long_for_a_local_model_is_the_clients_fault():
    long = [{"role": "user", "content": "Why? " * 600}]
    with Serving(model=f"local:{causal_lm(max_positions=512)}") as server:
        base = server.service.catalog.base
        for asked in ({"model": "tpo"}, {"model": base}, {"model": base, "stream": True}):
            told = server.post({"messages": long, **asked})
            assert told.status_code == 400, told.text
            assert told.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("extra", [TOOLS, JSON])
def test_the_base_models_own_turn_is_drawn_as_the_runs_samples(extra: dict[str, Any]):
    options = {"max_output_tokens": 50}
    with OpenAIServer(respond) as upstream:
        with serving(upstream, None, options=options, temperature=0.9, seed=4) as server:
            asked = {"model": MODEL, "messages": ASKED, "max_tokens": 99, **extra}
            assert server.post({**asked, "tpo": {"top_p": 0.5}}).status_code == 200
        own = upstream.calls[0].params
    assert (own["temperature"], own["top_p"], own["seed"]) == (0.9, 0.5, 4)
    assert own["max_tokens"] == 50
    assert "max_completion_tokens" not in own


def test_a_model_that_takes_temperature_or_top_p_gets_one():
    def rule(call: Call) -> Behaviour | None:
        told = {"message": "temperature and top_p cannot both be specified"}
        both = {"temperature", "top_p"} <= call.params.keys()
        return Behaviour(status=400, error=told) if both else None

    with OpenAIServer(respond, rule=rule) as upstream, serving(upstream, None) as server:
        assert server.post({"model": MODEL, "messages": ASKED, **TOOLS}).status_code == 200
        asked = [{"role": "user", "content": "What now?"}]
        before = len(upstream.calls)
        assert server.post({"model": MODEL, "messages": asked, **TOOLS}).status_code == 200
        assert "top_p" not in upstream.calls[before].params  # learnt


def test_the_operators_most_tokens_hold_for_the_base_model():
    options = {"max_output_tokens": 5}
    with OpenAIServer() as upstream, serving(upstream, None, options=options) as server:
        for stream in (False, True):
            for given in ({}, {"max_tokens": 9}, {"max_tokens": 3}):
                asked = {"model": "policy", "messages": ASKED, "stream": stream, **given}
                assert server.post(asked).status_code == 200
    names = ("max_completion_tokens", "max_tokens")
    most = [[call.params.get(name) for name in names] for call in upstream.calls]
    assert most == [[5, None], [None, 5], [None, 3]] * 2


STREAMS: list[tuple[str, dict[str, Any]]] = [
    ("chat/completions", {"messages": ASKED}),
    ("chat/completions", {"messages": ASKED, "tools": [{"type": "custom", "name": "patch"}]}),
    ("responses", {"input": "Why?"}),
]
"""Requests whose replies come in chunks."""


@pytest.mark.parametrize(("path", "asked"), STREAMS)
@pytest.mark.parametrize(("status", "told"), [(429, 429), (500, 502), (503, 502), (400, 400)])
def test_a_stream_of_the_base_model_that_does_not_begin_has_a_status(
    path: str, asked: dict[str, Any], status: int, told: int
):
    fails = Behaviour(status=status, headers={"Retry-After": "7"})
    with OpenAIServer(rule=lambda _: fails) as upstream, serving(upstream, None) as server:
        refused = server.post({"model": "policy", "stream": True, **asked}, path)
        assert refused.status_code == told
        assert f"scripted {status}" in refused.json()["error"]["message"]
        assert refused.headers.get("retry-after") == ("7" if status == 429 else None)


def test_a_whole_reply_to_a_request_for_a_stream_becomes_a_stream():
    called = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    message = {"role": "assistant", "content": "Let me see.", "tool_calls": [called]}
    made = completion({"index": 0, "finish_reason": "tool_calls", "message": message})
    made.body["usage"] = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    with OpenAIServer(rule=lambda _: made) as upstream, serving(upstream, None) as server:
        create = server.client().chat.completions.create
        more = {"stream": True, "stream_options": {"include_usage": True}}
        *chunks, last = list(create(model="policy", messages=ASKED, **more))
    assert last.usage.total_tokens == 3
    said, ended = [chunk.choices[0] for chunk in chunks]
    assert (said.delta.content, ended.finish_reason) == ("Let me see.", "tool_calls")
    assert said.delta.tool_calls[0].function.name == "look"


@pytest.mark.parametrize("reply", [Behaviour(body={"status": "busy"}), Behaviour(choices=0)])
def test_a_reply_that_is_no_stream_is_the_servers_fault(reply: Behaviour):
    with OpenAIServer(rule=lambda _: reply) as upstream, serving(upstream, None) as server:
        told = server.post({"model": "policy", "messages": ASKED, "stream": True})
        assert told.status_code == 502
        assert "the reply" in told.json()["error"]["message"]


def test_a_stream_of_the_base_model_says_that_the_server_stops(tmp_path: Path):
    """So does one that has not begun; both as a run's stream does."""
    told: list[httpx.Response] = []
    arguments = ["--port", "0", "--database", "none", "--drain", "0"]
    with OpenAIServer(rule=lambda _: Behaviour(hang=True)) as upstream:
        upstream.script.append(Behaviour(stall=True))
        with process(upstream, arguments, tmp_path) as (url, server):
            client: Any = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
            stream = client.chat.completions.create(model="policy", messages=ASKED, stream=True)
            assert next(stream).choices[0].delta.content
            body = {"model": "policy", "messages": ASKED, "stream": True}
            path = f"{url}/v1/chat/completions"
            post = partial(httpx.post, path, json=body, timeout=60)
            asking = threading.Thread(target=lambda: told.append(post()))
            asking.start()
            wait_until(lambda: len(upstream.calls) == 2)
            server.send_signal(signal.SIGTERM)
            with pytest.raises(openai.APIError, match="shutting down"):
                list(stream)
            asking.join(60)
            server.wait(20)
            client.close()
    assert [reply.status_code for reply in told] == [503]


def test_a_client_that_leaves_a_stream_of_the_base_model_stops_the_call():
    with OpenAIServer(rule=lambda _: Behaviour(hang=True)) as upstream:
        upstream.script.append(Behaviour(stall=True))
        with serving(upstream, None) as server:
            with server.client().chat.completions.create(
                model="policy", messages=ASKED, stream=True
            ) as stream:
                next(iter(stream))
                assert len(server.service.answers._beside) == 1
            wait_until(lambda: not server.service.answers._beside)
            with pytest.raises(openai.APITimeoutError):  # before the first chunk
                server.client(timeout=1).chat.completions.create(
                    model="policy", messages=ASKED, stream=True
                )
            wait_until(lambda: not server.service.answers._beside)


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
