"""The HTTP transport under ChatOpenAI, beyond what the sampling tests do with it."""

from collections.abc import Callable
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI

from tests.models.test_sampling import PROMPT, sampling
from tests.openai_server import Behaviour, OpenAIServer
from tpo_graph.concurrency.outages import may_pass
from tpo_graph.errors import PolicyError
from tpo_graph.models.loops import handle
from tpo_graph.models.sampling import generate

Make = Callable[..., ChatOpenAI]


async def client_of(model: ChatOpenAI) -> openai.AsyncOpenAI:
    held: Any = (await handle(model)).model
    return held.root_async_client


async def test_connections_are_used_again(server: OpenAIServer, chat: Make) -> None:
    for _ in range(3):
        await generate(chat(), PROMPT, 2, sampling())
    assert len({call.peer for call in server.calls}) == 1


async def test_a_connection_that_the_server_closed_is_not(server: OpenAIServer, chat: Make) -> None:
    model = chat(max_retries=0)
    server.script.append(Behaviour(headers={"Connection": "close"}))
    for _ in range(2):
        assert len((await generate(model, PROMPT, 2, sampling())).texts) == 2


async def test_compressed_and_large_replies(server: OpenAIServer, chat: Make) -> None:
    server.responder = lambda *_: "é{}" * 300_000
    for behaviour in (Behaviour(gzip=True), Behaviour()):
        server.script.append(behaviour)
        found = await generate(chat(), PROMPT, 2, sampling())
        assert found.texts == ["é{}" * 300_000] * 2


async def test_the_client_still_streams(server: OpenAIServer, chat: Make) -> None:
    client = await client_of(chat())
    messages: Any = [{"role": "user", "content": "x"}]
    stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
    pieces = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(pieces) == server.responder(messages, None, 0)
    stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
    async for _ in stream:
        break
    await stream.close()


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (Behaviour(hang=True), openai.APITimeoutError),
        (Behaviour(reset=True), openai.APIConnectionError),
        (Behaviour(cut=True), openai.APIConnectionError),
        (Behaviour(status=400), openai.BadRequestError),
    ],
)
async def test_errors_are_those_of_the_openai_client(
    server: OpenAIServer, chat: Make, behaviour: Behaviour, error: type[Exception]
) -> None:
    server.script.append(behaviour)
    client = await client_of(chat(max_retries=0, timeout=0.5))
    with pytest.raises(error) as raised:
        await client.chat.completions.create(model="m", messages=[])
    assert type(raised.value) is error


async def test_a_reply_that_breaks_off_is_no_refusal(server: OpenAIServer, chat: Make) -> None:
    """Its server may have been killed: the same request may succeed, and `n` is not to blame."""
    server.rule = lambda _: Behaviour(cut=True)
    with pytest.raises(PolicyError, match="cannot be reached") as raised:
        await generate(chat(max_retries=0), PROMPT, 3, sampling())
    assert may_pass(raised.value)
    assert [call.params["n"] for call in server.calls] == [3]


async def test_a_proxy_in_the_environment_is_used(
    server: OpenAIServer, chat: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
    await generate(chat(base_url="http://elsewhere.invalid/v1"), PROMPT, 1, sampling())
    assert server.calls[0].headers["host"] == "elsewhere.invalid"


async def test_extras_of_a_request_are_sent(server: OpenAIServer, chat: Make) -> None:
    model = chat(
        extra_body={"priority": 3},
        model_kwargs={"extra_headers": {"x-mine": "yes"}, "user": "u"},
        include_response_headers=True,
    )
    await generate(model, PROMPT, 1, sampling())
    (call,) = server.calls
    assert call.params["priority"] == 3
    assert call.params["user"] == "u"
    assert call.headers["x-mine"] == "yes"
