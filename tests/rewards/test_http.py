"""What the endpoint does with a server that fails, in passing or for good."""

import asyncio
import threading
import time
from email.utils import formatdate

import pytest

from tests.openai_server import Behaviour
from tests.reward_server import RewardServer
from tests.tiny_models import classifier
from tpo_graph.errors import ConfigurationError, RewardError, RewardInputError
from tpo_graph.rewards.http import Endpoint

BODY = {"model": "rm", "input": [[5, 6, 7]], "use_activation": False}


@pytest.fixture
def server():
    with RewardServer("vllm", classifier(), api_key="sk-canary-key") as server:
        yield server


def endpoint(server: RewardServer, **options) -> Endpoint:
    return Endpoint(server.url, **{"api_key": "sk-canary-key", "backoff": 0.01, **options})


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_what_passes_is_tried_again(server, status):
    server.script += [Behaviour(status=status), Behaviour(status=status)]
    reply = await endpoint(server).post("/classify", BODY)
    assert reply["object"] == "list"
    assert len(server.calls) == 3


async def test_a_lost_connection_is_tried_again(server):
    server.script.append(Behaviour(reset=True))
    assert (await endpoint(server).post("/classify", BODY))["object"] == "list"


async def test_a_server_that_hangs_is_given_up(server):
    server.script += [Behaviour(hang=True)] * 2
    with pytest.raises(RewardError, match=r"failed 2 times: no reply within 0.1 s.*more time"):
        await endpoint(server, timeout=0.1, retries=1).post("/classify", BODY)


async def test_retries_are_bounded_and_the_servers_words_are_shown(server):
    told = {"message": "CUDA out of memory, key sk-canary-key"}
    server.script += [Behaviour(status=503, error=told)] * 10
    with pytest.raises(RewardError) as caught:
        await endpoint(server, retries=2).post("/classify", BODY)
    assert len(server.calls) == 3
    assert "failed 3 times: status 503" in str(caught.value)
    assert "CUDA out of memory" in str(caught.value)
    assert "canary" not in str(caught.value)


async def test_retry_after_is_honoured_in_seconds_and_as_a_date(server):
    for given in ("0.3", formatdate(time.time() + 2, usegmt=True)):
        server.script.append(Behaviour(status=429, headers={"Retry-After": given}))
        started = time.monotonic()
        await endpoint(server).post("/classify", BODY)
        assert time.monotonic() - started > 0.25
    server.script.append(Behaviour(status=429, headers={"Retry-After": "soon"}))
    await endpoint(server).post("/classify", BODY)


async def test_a_server_that_asks_for_an_hour_is_not_waited_for(server):
    server.script.append(Behaviour(status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(RewardError, match="asks clients to wait for 3600 s"):
        await endpoint(server).post("/classify", BODY)
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("behaviour", "expected", "message"),
    [
        (Behaviour(status=401, error={"message": "no"}), RewardError, "Check the API key"),
        (Behaviour(status=403, error={"message": "no"}), RewardError, "may use this model"),
        (Behaviour(status=404, error={"message": "no such model"}), RewardError, "no such model"),
        (Behaviour(status=400, error={"message": "bad field 'x'"}), RewardError, "bad field"),
        (
            Behaviour(status=400, error={"message": "maximum context length is 64 tokens"}),
            RewardInputError,
            "Lower max_tokens",
        ),
        (Behaviour(contents=["<html>"]), RewardError, "something else than JSON"),
    ],
)
async def test_what_is_permanent_is_one_error_at_once(server, behaviour, expected, message):
    server.script.append(behaviour)
    with pytest.raises(expected, match=message) as caught:
        await endpoint(server).post("/classify", BODY)
    assert type(caught.value) is expected
    assert len(server.calls) == 1


async def test_credentials_in_the_url_are_used_and_never_shown():
    with RewardServer("vllm", classifier()) as server:
        url = server.url.replace("http://", "http://me:pass%20word@")
        made = Endpoint(url + "/v1/?key=abc", retries=0)
        assert made.url == server.url
        await made.post("/classify", BODY)
        assert server.calls[0][2]["authorization"] == "Basic bWU6cGFzcyB3b3Jk"
        server.script.append(Behaviour(status=500, error={"message": "user me:pass word"}))
        with pytest.raises(RewardError) as caught:
            await made.post("/classify", BODY)
    assert "pass word" not in str(caught.value)
    assert "pass%20word" not in str(caught.value)


async def test_a_server_that_is_not_there():
    with pytest.raises(RewardError, match="Is the server running"):
        await Endpoint("http://127.0.0.1:9", retries=1, backoff=0.01).post("/classify", BODY)


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://host", "http://", "http://a:b@"])
def test_what_is_no_address_is_refused_without_showing_credentials(url):
    with pytest.raises(ConfigurationError, match="is a URL such as") as caught:
        Endpoint(url)
    assert "a:b" not in str(caught.value)


async def test_no_more_requests_at_once_than_allowed(server):
    server.script += [Behaviour(delay=0.05)] * 8
    made = endpoint(server, max_concurrency=3)
    await asyncio.gather(*(made.post("/classify", BODY) for _ in range(8)))
    assert server.most_in_flight == 3


def test_one_endpoint_serves_several_event_loops(server):
    made = endpoint(server)
    for _ in range(2):
        asyncio.run(made.post("/classify", BODY))

    async def several() -> None:
        await asyncio.gather(*(made.post("/classify", BODY) for _ in range(4)))

    threads = [threading.Thread(target=asyncio.run, args=(several(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(server.calls) == 10


async def test_a_cancelled_request_is_dropped(server):
    server.script.append(Behaviour(hang=True))
    made = endpoint(server, max_concurrency=1)
    task = asyncio.create_task(made.post("/classify", BODY))
    await asyncio.to_thread(server.arrived.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await made.post("/classify", BODY))["object"] == "list"
