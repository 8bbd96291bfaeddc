"""OpenAI's own client gets improved answers, whole and streamed."""

from collections.abc import Iterator

import httpx
import openai
import pytest

from tests.openai_server import OpenAIServer
from tests.serve.serving import ASKED, BASE, TPO, Serving
from tests.serve.test_runs import serving


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with Serving() as serving:
        yield serving


def test_models_are_tpo_in_several_settings_and_the_base(server: Serving):
    names = [model.id for model in server.client().models.list()]
    assert names[0] == TPO
    assert names[-1] == BASE
    assert server.client().models.retrieve("tpo-d4n2/ScriptedChatModel").id
    with pytest.raises(openai.NotFoundError, match="tpo-dDnN/"):
        server.client().models.retrieve("gpt-4o")


def test_a_model_has_the_context_window_that_its_server_tells():
    with OpenAIServer() as upstream, serving(upstream, None) as server:
        listed = httpx.get(f"{server.url}/v1/models").json()["data"]
        assert not any("max_model_len" in model or "context_length" in model for model in listed)
    with OpenAIServer() as upstream, serving(upstream, None) as server:
        upstream.models = [{"id": "policy", "object": "model", "max_model_len": 4096}]
        listed = httpx.get(f"{server.url}/v1/models").json()["data"]
        listed.append(httpx.get(f"{server.url}/v1/models/tpo").json())
        sizes = {(model["max_model_len"], model["context_length"]) for model in listed}
        assert sizes == {(4096, 4096)}


def test_a_whole_answer_is_the_best_of_the_run(server: Serving):
    made = server.client().chat.completions.create(model=TPO, messages=ASKED)
    message = made.choices[0].message
    assert message.content is not None
    assert "!" in message.content
    assert message.reasoning_content.startswith("2 drafts")
    assert made.choices[0].finish_reason == "stop"
    assert made.tpo["reward"] == len(message.content)
    assert made.tpo["stop_reason"] == "depth"
    usage = made.usage
    assert usage.completion_tokens > usage.completion_tokens_details.reasoning_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_a_stream_is_progress_then_the_same_answer_then_usage(server: Serving):
    chunks = list(
        server.client().chat.completions.create(
            model=TPO,
            messages=ASKED,
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"tpo": {"depth": 2}},
        )
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    kinds = ["reasoning" if getattr(d, "reasoning", None) else "content" for d in deltas[1:-1]]
    assert kinds == sorted(kinds, reverse=True)
    lines = "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas)
    assert lines == "".join(getattr(delta, "reasoning", None) or "" for delta in deltas)
    assert "2nd revision" in lines
    assert "".join(delta.content or "" for delta in deltas).count("!") >= 1
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens_details.reasoning_tokens > 0


def test_the_base_is_passed_through(server: Serving):
    before = server.calls()
    asked = [{"role": "user", "content": "Title?"}]
    made = server.client().chat.completions.create(model=BASE, messages=asked)
    assert made.choices[0].message.content.startswith("Answer")
    streamed = server.client().chat.completions.create(model=BASE, messages=asked, stream=True)
    parts = [chunk.choices[0].delta.content or "" for chunk in streamed]
    assert "".join(parts).startswith("Answer")
    assert server.calls() == before + 2


def test_several_choices_are_the_best_of_the_run(server: Serving):
    made = server.client().chat.completions.create(
        model=TPO, messages=ASKED, n=3, stop="(", extra_body={"tpo": {"width": 3}}
    )
    texts = [choice.message.content for choice in made.choices]
    assert [choice.index for choice in made.choices] == [0, 1, 2]
    assert len(texts) == 3
    assert not any("(" in text for text in texts)


LOOK = {"type": "function", "function": {"name": "look", "parameters": {}}}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tpo": {"dept": 3}}, "did you mean 'depth'"),
        ({"tpo": {"nonsense": 3}}, "there are .*width"),
        ({"tpo": {"depth": 9}}, "more than this server allows: 8"),
        ({"tpo": {"interrupt_at": "select"}}, "set by this server alone"),
        ({"tpo": {"policy": "openai:gpt"}}, "not a choice of this server"),
        ({"tpo": {"max_cost": 0.1}}, "tpo.max_cost=0.1 .* no price"),
        ({"tpo": {"max_cost": 0.1}, "stream": True}, "tpo.max_cost=0.1 .* no price"),
        ({"tpo": 3}, "tpo"),
        ({"tools": "x"}, "tools"),
        ({"tools": -1}, "tools"),
        ({"logprobs": True}, "logprobs are not available"),
        ({"messages": []}, r"messages=\[\] is not valid: it is too short"),
        ({"messages": [{"role": "user", "content": " "}]}, "the query is empty"),
        ({"temperature": 3}, "temperature=3 is not valid: it must be at most 2"),
        ({"model": BASE, "n": 0}, "n=0 is not valid: it must be at least 1"),
        ({"model": BASE, "n": 2, "stream": True}, "n=2: .* gives one choice per request"),
        ({"tools": [LOOK]}, "cannot call tools"),
        ({"model": BASE, "tools": [LOOK]}, "cannot call tools"),
        ({"n": 99}, "n=99 is more"),
        ({"model": BASE, "tpo": {"depth": 1}}, "knows no options"),
    ],
)
def test_what_cannot_be_done_is_refused_in_openais_words(
    server: Serving, changes: dict[str, object], words: str
):
    before = server.calls()
    with pytest.raises(openai.BadRequestError, match=words) as caught:
        server.client().post(
            "/chat/completions", body={"model": TPO, "messages": ASKED, **changes}, cast_to=object
        )
    assert caught.value.type == "invalid_request_error"
    assert server.calls() == before


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999", r'"half \ud83c"'])
def test_numbers_and_characters_that_json_does_not_have(server: Serving, path: str, value: str):
    query = '"input": "Why?"'
    if path != "responses":
        query = '"messages": [{"role": "user", "content": "Why?"}]'
    body = f'{{"model": "{TPO}", {query}, "metadata": {{"a": {value}}}}}'
    headers = {"content-type": "application/json"}
    reply = httpx.post(f"{server.url}/v1/{path}", content=body, headers=headers, timeout=30)
    assert reply.status_code == (200 if "half" in value else 400), reply.text
    if reply.status_code == 400:
        assert "the body is not JSON" in reply.json()["error"]["message"]


def test_a_base_url_without_v1_is_told_what_there_is(server: Serving):
    reply = httpx.post(f"{server.url}/chat/completions", json={}, timeout=30)
    assert reply.status_code == 404
    assert "base URL ends in /v1" in reply.json()["error"]["message"]


def test_unknown_fields_outside_are_ignored(server: Serving):
    reply = server.post({"model": TPO, "messages": ASKED, "chat_id": "1", "metadata": {"a": 1}})
    assert reply.status_code == 200
    assert reply.headers["x-request-id"].startswith("req_")
