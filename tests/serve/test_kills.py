"""kill -9 of the server, and two servers on one database: nobody pays twice for a finished call."""

import asyncio
import json
import re
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest

from tests.kills import harness
from tests.openai_server import Behaviour, Call, OpenAIServer
from tests.serve.test_client_requests import scripted_call
from tests.serve.test_runs import MODEL, STAGES, process, stage, wait_until

KINDS = ["plain", "tools", "json"]
CALLING = range(1000, 1004)
"""Numbers of questions that the model answers with a call of a tool."""
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
EXTRA: dict[str, dict[str, Any]] = {
    "plain": {},
    "tools": {"tools": [TOOL]},
    "calls": {"tools": [TOOL]},
    "json": {"response_format": {"type": "json_object"}},
}
ARGUMENTS = ["--port", "0", "--width", "2", "--depth", "1"]


def kind_of(number: int) -> str:
    return "calls" if number in CALLING else KINDS[number % len(KINDS)]


def respond(messages: list[dict[str, Any]], seed: int | None, index: int) -> str:
    """JSON to those who ask for it."""
    said = harness.respond(messages, seed, index)
    if "json" not in str(messages):
        return said
    inside = re.sub("</?improved_answer>", "", said)
    told = json.dumps({"said": inside})
    return f"<improved_answer>{told}</improved_answer>" if inside != said else told


def number_of(call: Call) -> int:
    found = re.search(r"question (\d+) ", str(call.messages))
    assert found
    return int(found[1])


def identity(call: Call) -> str:
    """What was asked: two finished calls of one identity are one call paid for twice."""
    form = [call.params.get("tools"), call.params.get("response_format")]
    return json.dumps([harness.identity(call), form])


async def _ask(client: openai.AsyncOpenAI, number: int) -> str | None:
    """The answer of a stream; None if the server went away on the way."""
    create: Any = client.chat.completions.create
    asked = [{"role": "user", "content": f"question {number} , {kind_of(number)}"}]
    text = ""
    try:
        extra = EXTRA[kind_of(number)]
        async with await create(model=MODEL, messages=asked, stream=True, **extra) as stream:
            async for chunk in stream:
                text += chunk.choices[0].delta.content or ""
                for call in chunk.choices[0].delta.tool_calls or ():
                    text += call.function.name
                if chunk.choices[0].finish_reason:
                    return text
    except (openai.APIError, httpx.TransportError, httpx2.TransportError):
        pass
    return None


def answers(urls: list[str], numbers: Iterable[int]) -> list[list[str | None]]:
    """What every client hears, of each server, all at once."""

    async def ask_all() -> list[list[str | None]]:
        async def of(url: str) -> list[str | None]:
            given: dict[str, Any] = {"api_key": "any", "max_retries": 0, "timeout": 240}
            async with openai.AsyncOpenAI(base_url=f"{url}/v1", **given) as client:
                return await asyncio.gather(*[_ask(client, number) for number in numbers])

        return await asyncio.gather(*map(of, urls))

    return asyncio.run(ask_all())


def finished(upstream: OpenAIServer) -> Counter[str]:
    return Counter(identity(call) for call in upstream.calls if call.ended is not None)


def hangs(call: Call) -> bool:
    """A third of the streams each: at the first samples, the critique, the instructions, ..."""
    number = number_of(call)
    at = STAGES[number // len(KINDS) % len(STAGES)]
    own = bool(call.params.get("tools")) and at == "sample"  # its samples come after its own turn
    return stage(call) == at and not own


def killed_under(count: int, database: str, folder: Path) -> None:
    """Kill the server while each stream waits for a call; its retry gets the answer."""
    released = threading.Event()

    def rule(call: Call) -> Behaviour | None:
        return Behaviour(hang=True) if not released.is_set() and hangs(call) else None

    arguments = [*ARGUMENTS, "--database", database]
    heard: list[Any] = []
    with OpenAIServer(respond, rule=rule) as upstream:
        with process(upstream, arguments, folder) as (url, server):
            clients = threading.Thread(target=lambda: heard.extend(answers([url], range(count))))
            clients.start()
            # A run whose next call is under way has stored the call before.
            wait_until(lambda: sum(hangs(call) for call in upstream.calls) == count, 120)
            server.kill()
            clients.join(60)
        assert heard == [[None] * count]
        released.set()
        with process(upstream, arguments, folder) as (url, _):
            (again,) = answers([url], range(count))
            assert all(again), (folder / "serve.log").read_text()
            assert answers([url], range(count)) == [again]
        assert max(finished(upstream).values()) == 1
        samples = [call for call in upstream.calls if stage(call) == "sample"]
        of_tools = [call.params.get("n") for call in samples if kind_of(number_of(call)) == "tools"]
        assert 2 not in of_tools  # beside its own turn, one sample


def test_a_killed_server_pays_for_no_finished_call_again(sqlite_url: str, tmp_path: Path):
    killed_under(12, sqlite_url, tmp_path)


@pytest.mark.slow
def test_a_server_killed_under_fifty_streams(database_url: str, tmp_path: Path):
    killed_under(50, database_url, tmp_path)


@pytest.mark.slow
def test_two_servers_on_one_database_answer_a_request_once(postgres_url: str, tmp_path: Path):
    numbers = [*range(24), *CALLING]

    def rule(call: Call) -> Behaviour:
        if number_of(call) in CALLING:
            return replace(scripted_call("look", "{}"), delay=1.0)
        return Behaviour(delay=1.0)

    arguments = [*ARGUMENTS, "--database", postgres_url]
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
    with (
        OpenAIServer(respond, rule=rule) as upstream,
        process(upstream, arguments, folders[0]) as (one, _),
        process(upstream, arguments, folders[1]) as (other, _),
    ):
        for url in (one, other):
            httpx.get(f"{url}/ready", timeout=60).raise_for_status()
        here, there = answers([one, other], numbers)
        assert here == there
        assert all(here)
        assert here[-len(CALLING) :] == ["look"] * len(CALLING)
        assert max(finished(upstream).values()) == 1
