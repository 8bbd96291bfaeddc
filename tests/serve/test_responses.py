"""The Responses API, read by OpenAI's own client and held against its types."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.openai_server import Behaviour, OpenAIServer
from tests.serve.serving import BASE, TPO, Serving

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOL: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "Of a place.",
    "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    "strict": False,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with Serving() as serving:
        yield serving


def strictly(event: Any) -> Any:
    """The event, which must have every field that OpenAI's type asks for, of its type."""
    return EVENTS.validate_python(event.model_dump(exclude_unset=True), strict=False)


def test_a_whole_response(server: Serving):
    made = server.client().responses.create(
        model=TPO, input="Why?", instructions="Be brief.", extra_body={"tpo": {"depth": 1}}
    )
    Response.model_validate(made.model_dump(exclude_unset=True))
    assert [item.type for item in made.output] == ["reasoning", "message"]
    assert "!" in made.output_text
    assert made.status == "completed"
    assert made.usage.output_tokens_details.reasoning_tokens > 0
    assert made.tpo["reward"] == len(made.output_text)
    assert made.store is False
    first = server.model.calls[0][0]
    assert [message.type for message in first[:2]] == ["system", "human"]


@pytest.mark.parametrize("model", [TPO, BASE])
def test_a_stream_has_the_events_of_each_item_in_order(server: Serving, model: str):
    asked: list[dict[str, Any]] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "Why not?"}]},
        {"type": "message", "role": "assistant",
         "content": [{"type": "output_text", "text": "Because."}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"role": "user", "content": "And why?"},
    ]  # fmt: skip
    events = list(server.client().responses.create(model=model, input=asked, stream=True))
    for number, event in enumerate(events):
        assert strictly(event).sequence_number == number
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[:2] == ["created", "in_progress"]
    assert kinds[-1] == "completed"
    assert kinds.count("output_item.added") == kinds.count("output_item.done")
    assert ("reasoning_summary_text.delta" in kinds) == (model == TPO)
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    done = events[-1].response
    assert text == done.output_text
    assert (done.usage.total_tokens > 0) == (model == TPO)  # the fake tells none in a message
    assert [item.id for item in done.output] == [
        event.item.id for event in events if event.type == "response.output_item.done"
    ]


@pytest.mark.parametrize(
    ("model", "stream"), [("tpo/policy", False), ("tpo/policy", True), ("policy", False)]
)
def test_a_call_of_a_tool_comes_back_and_its_result_is_part_of_the_conversation(
    model: str, stream: bool
):
    call = {"id": "call_1", "type": "function",
            "function": {"name": "weather", "arguments": '{"place": "Oslo"}'}}  # fmt: skip
    completion = {
        "id": "1", "object": "chat.completion", "created": 1, "model": "policy",
        "choices": [{"index": 0, "finish_reason": "tool_calls",
                     "message": {"role": "assistant", "content": None, "tool_calls": [call]}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12},
    }  # fmt: skip
    with (
        OpenAIServer() as upstream,
        Serving(model=ChatOpenAI(model="policy", base_url=upstream.url, api_key="k"), depth=0)  # pyright: ignore
        as server,
    ):  # fmt: skip
        upstream.script.append(Behaviour(body=completion))
        asked: list[Any] = [{"role": "user", "content": "Weather in Oslo?"}]
        made = server.client().responses.create(
            model=model, input=asked, tools=[TOOL], stream=stream
        )
        response = list(made)[-1].response if stream else made
        (item,) = (each for each in response.output if each.type == "function_call")
        assert (item.name, item.call_id, json.loads(item.arguments)["place"]) == (
            "weather", "call_1", "Oslo",
        )  # fmt: skip
        assert upstream.calls[0].params["tools"][0]["function"]["name"] == "weather"
        assert len(upstream.calls) == 1
        told = {"type": "function_call_output", "call_id": "call_1", "output": "Rain."}
        again = [*asked, item.model_dump(exclude_unset=True), told]
        final = server.client().responses.create(model=model, input=again, tools=[TOOL])
        assert final.output_text
        roles = [message["role"] for message in upstream.calls[1].messages]
        assert roles == ["user", "assistant", "tool"]


def test_a_text_and_the_call_after_it_are_one_message():
    """The templates of some models want assistant and others to take turns."""
    asked = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Let me look."}]},
        {"type": "function_call", "call_id": "1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "Rain."},
    ]
    with (
        OpenAIServer() as upstream,
        Serving(model=ChatOpenAI(model="policy", base_url=upstream.url, api_key="k"))  # pyright: ignore
        as server,
    ):  # fmt: skip
        assert server.post({"model": "policy", "input": asked}, "responses").status_code == 200
    said = upstream.calls[0].messages
    assert [message["role"] for message in said] == ["user", "assistant", "tool"]
    assert said[1]["content"] == "Let me look."
    assert said[1]["tool_calls"][0]["function"]["name"] == "weather"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"previous_response_id": "resp_1"}, "keeps no conversations"),
        ({"background": True}, "keeps no conversations"),
        ({"tools": [{"type": "web_search"}]}, "web_search"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
        ({"input": 3}, "input must be a list"),
        ({"input": "Why?", "extra_body": {"tpo": {"dept": 1}}}, "did you mean 'depth'"),
    ],
)
def test_what_a_stateless_server_cannot_do_is_refused(
    server: Serving, changes: dict[str, Any], words: str
):
    with pytest.raises(openai.BadRequestError, match=words):
        server.client().responses.create(**{"model": TPO, "input": "Why?", **changes})


def test_an_error_on_the_way_is_the_end_of_the_stream():
    with (
        OpenAIServer(rule=lambda _: Behaviour(status=500)) as upstream,
        Serving(model=ChatOpenAI(model="m", base_url=upstream.url, api_key="k", max_retries=0))  # pyright: ignore
        as server,
    ):  # fmt: skip
        stream = server.client().responses.create(model="tpo", input="Why?", stream=True)
        events: list[Any] = []
        with pytest.raises(openai.APIError, match="failed with status 500"):
            events += [strictly(event) for event in stream]
