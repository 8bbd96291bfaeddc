"""What well-known clients send gets what they read: replies of OpenAI's own types."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from langchain_openai import ChatOpenAI
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.model import Model

from tests.openai_server import Behaviour, OpenAIServer
from tests.serve import client_requests as sent
from tests.serve.serving import Serving


@contextmanager
def serving() -> Generator[tuple[OpenAIServer, Serving]]:
    with OpenAIServer() as upstream:
        model = ChatOpenAI(model="policy", base_url=upstream.url, api_key="k", max_retries=0)  # pyright: ignore
        with Serving(model=model) as server:
            yield upstream, server


def chunks(reply: httpx.Response) -> list[ChatCompletionChunk]:
    """A stream's chunks, each of OpenAI's type; its last event says that it is whole."""
    assert reply.status_code == 200, reply.text
    lines = [line for line in reply.text.split("\n") if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    return [ChatCompletionChunk.model_validate_json(line[6:]) for line in lines[:-1]]


def scripted_call(name: str, arguments: str) -> Behaviour:
    """The policy calls a function."""
    call = {
        "id": "call_2",
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "policy",
        "choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
    }
    return Behaviour(body=body)


@pytest.mark.parametrize(
    "name", ["OPEN_WEBUI_CHAT", "LIBRECHAT", "CONTINUE", "CURSOR_ASK", "CURSOR_AGENT"]
)
def test_a_chat_gets_progress_the_answer_and_the_usage_of_the_run(name: str):
    with serving() as (upstream, server):
        made = chunks(server.post(getattr(sent, name)))
        said = [chunk.choices[0].delta for chunk in made if chunk.choices]
        assert any(getattr(delta, "reasoning_content", None) for delta in said)
        assert "".join(delta.content or "" for delta in said).strip()
        assert [c.choices[0].finish_reason for c in made if c.choices][-1] == "stop"
        assert made[-1].usage is not None
        assert made[-1].usage.total_tokens > 0
        first = upstream.calls[0]
        assert first.messages[0]["role"] == "system"
        for tool in first.params.get("tools") or ():
            assert tool["type"] == "function"
            assert tool["function"]["name"]


def test_titles_of_open_webui_cost_one_call_of_the_base():
    with serving() as (upstream, server):
        reply = server.post(sent.OPEN_WEBUI_TITLE)
        assert ChatCompletion.model_validate(reply.json()).choices[0].message.content
        assert len(upstream.calls) == 1
        assert upstream.calls[0].params["max_completion_tokens"] == 1000


def test_the_list_of_models_is_of_openais_types():
    with serving() as (_, server):
        listed = httpx.get(f"{server.url}/v1/models").json()
        assert [Model.model_validate(each).id for each in listed["data"]].index("tpo/policy") == 0


@pytest.mark.parametrize("model", ["tpo/policy", "policy"])
@pytest.mark.parametrize("stream", [True, False])
def test_cursors_agent_gets_a_patch_as_the_text_that_it_is(model: str, stream: bool):
    patch = "*** Begin Patch\n+greet()\n*** End Patch"
    with serving() as (upstream, server):
        upstream.script.append(scripted_call("ApplyPatch", json.dumps({"input": patch})))
        reply = server.post({**sent.CURSOR_AGENT, "model": model, "stream": stream})
        told: Any
        if stream:
            (told,) = [c.choices[0] for c in chunks(reply) if c.choices and
                       c.choices[0].delta.tool_calls]  # fmt: skip
            (call,) = told.delta.tool_calls
        else:
            told = ChatCompletion.model_validate(reply.json()).choices[0]
            (call,) = told.message.tool_calls
        assert (call.function.name, call.function.arguments) == ("ApplyPatch", patch)
        (asked,) = upstream.calls
        earlier = asked.messages[2]["tool_calls"][0]["function"]
        assert json.loads(earlier["arguments"]) == {"input": "*** Begin Patch one"}
        function = asked.params["tools"][1]["function"]
        assert function["parameters"]["required"] == ["input"]
        assert "lark" in function["description"]


@pytest.mark.parametrize("model", ["tpo/policy", "policy"])
def test_a_custom_tool_is_called_in_the_words_of_the_responses_api(model: str):
    tools = [sent.CURSOR_AGENT["tools"][1]]
    with serving() as (upstream, server):
        for stream in (False, True):
            upstream.script.append(scripted_call("ApplyPatch", json.dumps({"input": "the patch"})))
            ask = server.client().responses.create
            made = ask(model=model, input=f"Patch. {stream}", tools=tools, stream=stream)
            response = list(made)[-1].response if stream else made
            (item,) = [each for each in response.output if each.type == "custom_tool_call"]
            assert (item.name, item.input, item.call_id) == ("ApplyPatch", "the patch", "call_2")


@pytest.mark.parametrize("calls", ["x", ["x"], [{"type": "custom", "custom": {"name": []}}]])
def test_calls_of_a_wrong_shape_are_refused(calls: Any):
    asked = [{"role": "user", "content": "Why?"}, {"role": "assistant", "tool_calls": calls}]
    tools = [sent.CURSOR_AGENT["tools"][1]]
    with serving() as (_, server):
        reply = server.post({"model": "tpo/policy", "messages": asked, "tools": tools})
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "messages")
