import asyncio
import time
from collections.abc import Callable

import pytest
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

from tests.models.test_sampling import PROMPT, Plain, sampling
from tests.openai_server import Behaviour, OpenAIServer
from tpo_graph.errors import PolicyError
from tpo_graph.models.sampling import generate

Make = Callable[..., ChatOpenAI]
SOON = {"retry-after-ms": "10"}


async def failure(model: ChatOpenAI, n: int = 3, stage: str = "sample") -> str:
    """The one-line text of the error that `generate` raises."""
    with pytest.raises(PolicyError) as error:
        await generate(model, PROMPT, n, sampling(temperature=0.5), stage=stage)
    assert error.value.__cause__ is not None
    text = str(error.value)
    assert "\n" not in text
    assert "canary" not in text
    assert "'openai:m'" in text
    return text


async def test_retry_after_is_honoured(server: OpenAIServer, chat: Make) -> None:
    server.script.append(Behaviour(status=429, headers={"Retry-After": "1"}))
    found = await generate(chat(), PROMPT, 3, sampling())
    assert len(found.texts) == 3
    first, second = server.calls
    assert 0.95 < second.started - (first.ended or 0) < 3
    assert found.usage["requests"] == 1


async def test_a_retry_after_beyond_reason_is_an_error_at_once(
    server: OpenAIServer, chat: Make
) -> None:
    server.rule = lambda _: Behaviour(status=429, headers={"Retry-After": "3600"})
    assert "status 429" in await failure(chat())
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"status": 503}, {"reset": True}, {"cut": True}]
)
async def test_a_burst_of_failures_is_survived(
    server: OpenAIServer, chat: Make, fault: dict[str, object]
) -> None:
    server.script.append(Behaviour(**fault, headers=SOON))
    found = await generate(chat(), PROMPT, 2, sampling())
    assert len(found.texts) == 2
    assert len(server.calls) == 2


async def test_retries_are_bounded(server: OpenAIServer, chat: Make) -> None:
    server.rule = lambda _: Behaviour(status=500, headers=SOON, error={"message": "no GPU left"})
    text = await failure(chat(max_retries=4))
    assert "status 500" in text
    assert "no GPU left" in text
    assert len(server.calls) == 5


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        (400, {"message": "bad thing"}, "bad thing"),
        (401, {"message": "Incorrect API key: sk-canary-0123456789."}, "Check the API key"),
        (403, {"message": "region"}, "may use this model"),
        (404, {"message": "no model `m`"}, "Check the model's name and the server's base URL"),
        (404, "<html>\n<h1>sk-canary-0123456789</h1>" + "x" * 9999, "base URL"),
        (422, {"message": "Bearer sk-canary-0123456789"}, "***"),
        (400, {"message": "maximum context length is 8"}, "context length: shorten"),
        (400, {"message": "too long", "code": "context_length_exceeded"}, "context length: sho"),
    ],
)
async def test_a_permanent_error_is_raised_at_once(
    server: OpenAIServer, chat: Make, status: int, error: dict[str, str] | str, says: str
) -> None:
    server.rule = lambda _: Behaviour(status=status, error=error)
    text = await failure(chat())
    assert f"status {status}" in text
    assert says in text
    assert len(text) < 700
    # What no known reason explains may have been about n, in anybody's words: asked once without.
    unexplained = says in ("bad thing", "***")
    assert [call.params.get("n") for call in server.calls] == [3, None][: 1 + unexplained]


@pytest.mark.parametrize(
    ("error", "stage", "fix"),
    [
        ({"message": "no", "param": "temperature", "code": "unsupported_value"}, "update", ""),
        ({"message": "Unsupported parameter: 'temperature'"}, "loss", "critic_"),
        ({"message": "`temperature` is not supported with this model"}, "gradient", "critic_"),
    ],
)
async def test_a_refused_parameter_names_the_option_to_unset(
    server: OpenAIServer, chat: Make, error: dict[str, str], stage: str, fix: str
) -> None:
    server.rule = lambda _: Behaviour(status=400, error=error)
    text = await failure(chat(), stage=stage)
    assert f"{fix}temperature=None" in text
    assert f"--{fix.replace('_', '-')}temperature none" in text
    assert len(server.calls) == 1


async def test_a_server_that_never_answers_is_a_timeout(server: OpenAIServer, chat: Make) -> None:
    server.rule = lambda _: Behaviour(hang=True)
    started = time.perf_counter()
    assert "did not answer in time" in await failure(chat(timeout=0.2, max_retries=0))
    assert time.perf_counter() - started < 3


async def test_a_server_that_is_not_there_says_so(chat: Make) -> None:
    for url in ("http://127.0.0.1:9/v1", "http://no-such-host.invalid/v1", "nonsense://x/v1"):
        assert "cannot be reached" in await failure(chat(base_url=url, max_retries=0))


async def test_a_garbled_reply_is_asked_for_once_more(server: OpenAIServer, chat: Make) -> None:
    server.script.append(Behaviour(truncate=True))
    found = await generate(chat(), PROMPT, 2, sampling())
    assert len(found.texts) == 2
    assert found.usage["requests"] == 2
    server.rule = lambda _: Behaviour(truncate=True)
    server.calls.clear()
    await failure(chat())
    assert len(server.calls) == 2


async def test_what_was_paid_for_is_kept_when_the_second_request_fails(
    server: OpenAIServer, chat: Make
) -> None:
    server.script.append(Behaviour(contents=["good", None]))
    server.rule = lambda _: Behaviour(status=400)
    assert (await generate(chat(), PROMPT, 2, sampling())).texts == ["good"]


async def test_an_error_in_every_concurrent_call_is_raised() -> None:
    model = Plain(script=iter([OSError("sk-canary-0123456789 broke")] * 3))
    with pytest.raises(PolicyError, match=r"'Plain' failed: '\*\*\* broke'"):
        await generate(model, PROMPT, 3, sampling())


async def test_an_error_without_a_text_is_called_by_its_name() -> None:
    model = Plain(script=iter([NotImplementedError()]))
    with pytest.raises(PolicyError, match="'Plain' failed: 'NotImplementedError'"):
        await generate(model, PROMPT, 1, sampling())


async def test_cancelling_ends_the_request(server: OpenAIServer, chat: Make) -> None:
    server.rule = lambda _: Behaviour(hang=True)
    task = asyncio.create_task(generate(chat(), [HumanMessage("x")], 2, sampling()))
    async with asyncio.timeout(5):
        while not server.calls:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.05)
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("finish", "said"),
    [("content_filter", "content filter"), ("length", "max_tokens"), ("stop", "thinking")],
)
async def test_empty_replies_say_why_as_far_as_the_provider_does(
    server: OpenAIServer, chat: Make, finish: str, said: str
) -> None:
    server.rule = lambda _: Behaviour(contents=[""], finish_reason=finish)
    found = await generate(chat(), PROMPT, 2, sampling())
    assert found.texts == []
    assert said in found.no_text()
