import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import openai
from langchain_core.outputs import ChatResult
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from pydantic import SecretStr

from tests.models.test_sampling import PROMPT, sampling
from tests.openai_server import OpenAIServer
from tpo_graph.models.sampling import generate

Make = Callable[..., ChatOpenAI]


async def twice(model: ChatOpenAI) -> int:
    found = [await generate(model, PROMPT, 2, sampling()) for _ in range(2)]
    return sum(len(each.texts) for each in found)


def test_one_model_serves_one_loop_after_another(chat: Make) -> None:
    model = chat()
    for _ in range(3):
        assert asyncio.run(twice(model)) == 4
        gc.collect()  # an unclosed connection would be reported as a warning, hence an error


def test_one_model_serves_several_loops_at_once(server: OpenAIServer, chat: Make) -> None:
    model = chat()
    barrier = threading.Barrier(3)
    found: list[int] = []

    async def many() -> int:
        await asyncio.to_thread(barrier.wait)
        return sum(await asyncio.gather(*(twice(model) for _ in range(5))))

    threads = [threading.Thread(target=lambda: found.append(asyncio.run(many()))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [20] * 3
    assert len(server.calls) == 30


async def test_a_models_own_settings_are_kept(server: OpenAIServer, chat: Make) -> None:
    own = openai.DefaultAsyncHttpxClient(headers={"x-mine": "client"})
    for model in (
        chat(default_headers={"x-mine": "model"}, organization="org"),
        chat(http_async_client=own),
        AzureChatOpenAI(
            azure_endpoint=server.url.removesuffix("/v1"),
            azure_deployment="d",
            api_key="sk-canary-0123456789",
            api_version="v",
        ),
    ):
        assert len((await generate(model, PROMPT, 3, sampling())).texts) == 3
    await own.aclose()
    first, second, azure = (call.headers for call in server.calls)
    assert (first["x-mine"], second["x-mine"]) == ("model", "client")
    assert first["openai-organization"] == "org"
    assert azure["api-key"] == "sk-canary-0123456789"


async def test_the_model_given_to_us_is_left_as_it_was(chat: Make) -> None:
    model = chat(streaming=True)
    before = dict(model.__dict__)
    await generate(model, PROMPT, 1, sampling(temperature=0.5))
    assert dict(model.__dict__) == before


async def test_requests_that_are_alike_share_a_copy_and_others_do_not(server: OpenAIServer) -> None:
    asked: list[int] = []

    class Seen(ChatOpenAI):
        async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
            asked.append(id(self))
            return await super()._agenerate(*args, **kwargs)

    model = Seen(model="tiny", base_url=server.url, api_key=SecretStr("none"), temperature=0.2)
    for given in ({}, {}, {"temperature": 0.9}, {"temperature": 0.9, "seed": 7}, {}):
        await generate(model, PROMPT, 2, sampling(**given))
    assert [asked.index(each) for each in asked] == [0, 0, 2, 3, 0]
    assert [call.params["temperature"] for call in server.calls] == [0.2, 0.2, 0.9, 0.9, 0.2]
    assert [call.params.get("seed") for call in server.calls] == [None, None, None, 7, None]
    for seed in range(100):  # more than are kept
        await generate(model, PROMPT, 1, sampling(seed=seed))
    assert len({call.params["seed"] for call in server.calls[5:]}) == 100
