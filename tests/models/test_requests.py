"""What a server refuses is found out, done without and remembered; nothing else is."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

from tests.models.test_sampling import PROMPT, SENT, sampling
from tests.openai_server import Behaviour, Call, OpenAIServer
from tpo_graph.errors import PolicyError
from tpo_graph.models.sampling import generate

Make = Callable[..., ChatOpenAI]
FOLDED = [{"role": "user", "content": "be brief\n\nhello there"}]


def refuse(when: Callable[[Call], bool], error: Any, status: int = 400) -> Any:
    return lambda call: Behaviour(status=status, error=error) if when(call) else None


def refuse_n(error: Any, most: int = 1, status: int = 400) -> Any:
    return refuse(lambda call: (call.params.get("n") or 1) > most, error, status)


@pytest.mark.parametrize(
    ("status", "words", "most"),
    [
        (400, "Invalid n value (currently only n = 1 is supported)", 1),
        (400, "'n' : number must be at most 1", 1),
        (500, "Only one completion choice is allowed", 1),
        (400, "n must be 1 when using greedy sampling, got 5.", 1),
        (400, "please send one at a time", 1),
        (422, "¿qué?", 1),
        (400, "'n' does not support 5.", 1),
        (400, "n must be at most 2", 2),
        (400, "`n` must be between 1 and 2", 2),
    ],
)
async def test_n_is_refused_in_anybodys_words(
    server: OpenAIServer, chat: Make, status: int, words: str, most: int
) -> None:
    server.rule = refuse_n({"message": words}, most, status)
    model = chat(max_retries=0)
    for refused in (1, 0):
        server.calls.clear()
        found = await generate(model, PROMPT, 5, sampling(seed=5))
        assert len(set(found.texts)) == 5
        asked = [call.params.get("n") or 1 for call in server.calls]
        sizes = [size for size in asked if size <= most]
        assert sorted(sizes) == ([1] * 5 if most == 1 else [1, 2, 2])
        assert len(asked) - len(sizes) == refused
        assert found.usage["requests"] == len(sizes)


@pytest.mark.parametrize("status", [401, 402, 403, 404, 429, 503])
async def test_other_failures_are_not_blamed_on_n(
    server: OpenAIServer, chat: Make, status: int
) -> None:
    server.rule = lambda _: Behaviour(status=status, error={"message": "no"})
    with pytest.raises(PolicyError):
        await generate(chat(max_retries=0), PROMPT, 3, sampling())
    assert len(server.calls) == 1


async def test_greedy_decoding_alone_may_refuse_n(server: OpenAIServer, chat: Make) -> None:
    server.rule = refuse(
        lambda call: call.params.get("n", 1) > 1 and call.params["temperature"] == 0,
        {"message": "n must be 1 when using greedy sampling, got 3."},
    )
    model = chat()
    await generate(model, PROMPT, 3, sampling(temperature=0.0))
    server.calls.clear()
    await generate(model, PROMPT, 3, sampling(temperature=0.5))
    assert [call.params["n"] for call in server.calls] == [3]


@pytest.mark.parametrize(
    "words",
    [
        "System role not supported",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Developer instruction is not enabled for models/gemma-3-27b-it",
    ],
)
async def test_a_refused_system_role_goes_before_the_users_text(
    server: OpenAIServer, chat: Make, words: str
) -> None:
    server.rule = refuse(lambda call: call.messages[0]["role"] == "system", {"message": words})
    model = chat()
    for requests in (2, 1):
        server.calls.clear()
        assert len((await generate(model, PROMPT, 2, sampling())).texts) == 2
        assert len(server.calls) == requests
        assert server.calls[-1].messages == FOLDED
    assert [message.content for message in PROMPT] == [sent["content"] for sent in SENT]


async def test_system_turns_later_in_a_conversation_and_pictures_are_kept(
    server: OpenAIServer, chat: Make
) -> None:
    server.rule = refuse(
        lambda call: any(message["role"] == "system" for message in call.messages),
        {"message": "only user and assistant roles are supported"},
    )
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    messages = [
        HumanMessage([picture]),
        AIMessage("a"),
        SystemMessage("s"),
        HumanMessage([picture, {"type": "text", "text": "t"}]),
        SystemMessage("last"),
    ]
    await generate(chat(), messages, 1, sampling())
    first, answer, second, last = server.calls[-1].messages
    assert (first["content"], answer["content"]) == ([picture], "a")
    assert second["content"] == [{"type": "text", "text": "s"}, picture, {**second["content"][2]}]
    assert (last["role"], last["content"]) == ("user", "last")


async def test_a_refused_pair_of_temperature_and_top_p_goes_without_top_p_and_says_so_once(
    server: OpenAIServer, chat: Make, caplog: pytest.LogCaptureFixture
) -> None:
    words = "`temperature` and `top_p` cannot both be specified for this model."
    server.rule = refuse(lambda call: "top_p" in call.params, {"message": words})
    model = chat(top_p=0.3)
    with caplog.at_level(logging.WARNING):
        for requests in (2, 1):
            server.calls.clear()
            await generate(model, PROMPT, 2, sampling(temperature=0.5, top_p=0.9))
            assert len(server.calls) == requests
    assert caplog.text.count("--top-p none") == 1
    server.rule = lambda _: Behaviour(status=400, error={"message": words})
    with pytest.raises(PolicyError, match="--top-p none"):
        await generate(chat(), PROMPT, 2, sampling(temperature=0.5, top_p=0.9))


async def test_a_model_that_only_streams_is_streamed(server: OpenAIServer, chat: Make) -> None:
    words = "This model only support stream mode, please enable the stream parameter."
    server.rule = refuse(lambda call: not call.params.get("stream"), {"message": words})
    model = chat()
    for refused in (1, 0):
        server.calls.clear()
        found = await generate(model, PROMPT, 3, sampling(seed=1))
        assert len(set(found.texts)) == 3
        assert all(len(text.split()) == 8 for text in found.texts)
        assert found.finish_reasons == ["stop"] * 3
        assert found.usage["completion_tokens"] == 24
        assert len(server.calls) == 3 + refused


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "Provider returned error", "code": 429}},
        {"error": {"message": "overloaded", "code": "503"}},
        {"choices": [{"index": 0, "error": {"code": 502, "message": "gone"}, "message": {}}]},
    ],
)
async def test_an_error_in_a_reply_of_status_200_is_retried_like_its_status(
    server: OpenAIServer, chat: Make, body: dict[str, Any]
) -> None:
    server.script.append(Behaviour(body=body, headers={"retry-after-ms": "10"}))
    found = await generate(chat(max_retries=1), PROMPT, 2, sampling())
    assert len(found.texts) == 2
    assert [call.params["n"] for call in server.calls] == [2, 2]
    server.rule = lambda _: Behaviour(body={"error": {"message": "bad key", "code": 401}})
    with pytest.raises(PolicyError, match=r"status 401: 'bad key'. Check the API key"):
        await generate(chat(), PROMPT, 2, sampling())


@pytest.mark.parametrize(
    "body",
    [
        {"detail": "WORDS"},
        {"detail": [{"loc": ["body", "x"], "msg": "WORDS"}]},
        {"error": "WORDS"},
        [{"error": {"code": 400, "message": "WORDS"}}],
        {"object": "error", "message": "WORDS"},
        {"reason": {"is": "WORDS"}},
        "WORDS",
    ],
)
async def test_the_servers_own_words_are_shown(server: OpenAIServer, chat: Make, body: Any) -> None:
    server.rule = lambda _: Behaviour(status=400, body=body)
    with pytest.raises(PolicyError, match=r"status 400: '.*WORDS"):
        await generate(chat(), PROMPT, 1, sampling())


@pytest.mark.parametrize("key", ["sk-canary-0123456789\r\n", " “sk-canary-0123456789” "])
async def test_a_key_is_used_without_what_was_pasted_around_it(
    server: OpenAIServer, chat: Make, key: str
) -> None:
    model = chat(api_key=key, default_headers={"x-mine": "value\n"})
    await generate(model, PROMPT, 1, sampling())
    assert server.calls[0].headers["authorization"] == "Bearer sk-canary-0123456789"
    assert server.calls[0].headers["x-mine"] == "value"


async def test_a_key_that_no_header_can_carry_is_refused_at_once(
    server: OpenAIServer, chat: Make
) -> None:
    with pytest.raises(
        Exception, match=r"API key .* RIGHT SINGLE QUOTATION MARK, at position 4"
    ) as e:
        await generate(chat(api_key="sk-’canary"), PROMPT, 1, sampling())
    assert "canary" not in str(e.value)
    assert server.calls == []


async def test_a_model_that_was_changed_is_used_as_it_is_now(
    server: OpenAIServer, chat: Make
) -> None:
    model = chat()
    await generate(model, PROMPT, 1, sampling())
    model.model_name = "other"
    await generate(model, PROMPT, 1, sampling())
    assert [call.params["model"] for call in server.calls] == ["m", "other"]
