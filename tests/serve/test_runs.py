"""What a request pays for: once, whoever asks again, and nothing after its client has gone."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import openai
import pytest
from langchain_core.runnables import RunnableConfig
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.base import CheckpointMetadata, empty_checkpoint

from tests.kills.harness import ROOT, respond, run_ids
from tests.openai_server import Behaviour, Call, OpenAIServer
from tests.serve.serving import ASKED, Serving
from tests.serve.test_client_requests import scripted_call
from tpo_graph.errors import RunExistsError
from tpo_graph.serve.refusals import Refusal
from tpo_graph.serve.turns import Turns
from tpo_graph.store import open_store

MODEL = "tpo/policy"
CANARY = "sk-upstream-canary-0123456789"
STAGES = ["sample", "loss", "gradient", "update"]


def stage(call: Call) -> str:
    """Which step of a run with the default prompts made the call."""
    prompt = call.messages[-1]["content"]
    if "</improved_answer>" in prompt:
        return "update"
    if "fewest changes" in prompt:
        return "gradient"
    return "loss" if "<chosen_answer>" in prompt else "sample"


@contextmanager
def serving(upstream: OpenAIServer, database: str | None, **options: Any) -> Generator[Serving]:
    model = ChatOpenAI(model="policy", base_url=upstream.url, api_key=CANARY, max_retries=0)  # pyright: ignore
    with Serving(database, model=model, **options) as server:
        yield server


def wait_until(happened: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def hang_at(name: str) -> Callable[[Call], Behaviour | None]:
    return lambda call: Behaviour(hang=True) if stage(call) == name else None


def test_the_same_request_is_answered_by_the_same_run(database_url: str):
    with OpenAIServer(respond) as upstream:
        with serving(upstream, database_url) as server:
            ask = server.client().chat.completions.create
            first = ask(model=MODEL, messages=ASKED)
            again = ask(model=MODEL, messages=ASKED, stream=True)  # how it is told is no matter
            text = "".join(c.choices[0].delta.content or "" for c in again if c.choices)
            assert text == first.choices[0].message.content
        with serving(upstream, database_url) as server:  # from the database
            ask = server.client().chat.completions.create
            restarted = ask(model=MODEL, messages=ASKED)
            assert restarted.tpo == first.tpo
            assert [stage(call) for call in upstream.calls] == STAGES
            fresh = ask(model=MODEL, messages=ASKED, extra_headers={"Cache-Control": "no-cache"})
            other = ask(model=MODEL, messages=ASKED, seed=1)
            assert len({made.tpo["run_id"] for made in (first, fresh, other)}) == 3


def test_a_zero_byte_is_answered_and_found_again(database_url: str):
    """PostgreSQL holds none."""
    asked = [{"role": "user", "content": "Why\0?"}]
    with OpenAIServer(respond) as upstream, serving(upstream, database_url) as server:
        ask = server.client().chat.completions.create
        for more in ({}, {"extra_headers": {"Idempotency-Key": "a"}}):
            one, two = [
                ask(model=MODEL, messages=asked, extra_body={"tpo": {"criteria": "\0"}}, **more)
                for _ in "ab"
            ]
            assert one.tpo == two.tpo
        assert len(upstream.calls) == 2 * len(STAGES)


def test_a_run_is_read_as_json(sqlite_url: str):
    with OpenAIServer(respond) as upstream, serving(upstream, sqlite_url) as server:
        made = server.client().chat.completions.create(model=MODEL, messages=ASKED)
        found = httpx.get(f"{server.url}/v1/tpo/runs/{made.tpo['run_id']}").json()
        assert found["run"]["status"] == "finished"
        assert max(each["reward"] for each in found["candidates"]) == made.tpo["reward"]
        assert [step["iteration"] for step in found["steps"]][:1] == [0]
        none = httpx.get(f"{server.url}/v1/tpo/runs/none")
        assert (none.status_code, none.json()["error"]["type"]) == (404, "invalid_request_error")
    with OpenAIServer(respond) as upstream, serving(upstream, None) as server:
        assert httpx.get(f"{server.url}/v1/tpo/runs/none").status_code == 404


def test_a_finished_run_answers_again_for_a_while_and_longer_with_a_key(sqlite_url: str):
    with (
        OpenAIServer(respond) as upstream,
        serving(upstream, sqlite_url, options={"replay_seconds": 0}, depth=0) as server,
    ):
        ask = server.client().chat.completions.create
        ids = [ask(model=MODEL, messages=ASKED).tpo["run_id"] for _ in range(3)]
        assert len(set(ids)) == 3
        named = {"Idempotency-Key": "mine"}
        ids = [ask(model=MODEL, messages=ASKED, extra_headers=named).tpo["run_id"] for _ in "ab"]
        assert len(set(ids)) == 1
        assert len(upstream.calls) == 4
        with pytest.raises(openai.UnprocessableEntityError, match="another request"):
            ask(model=MODEL, messages=ASKED, seed=1, extra_headers=named)
        never = {"replay_seconds": 0, "idempotency_seconds": 0}
        with serving(upstream, sqlite_url, options=never, depth=0) as server:
            ask = server.client().chat.completions.create
            anew = ask(model=MODEL, messages=ASKED, seed=1, extra_headers=named)
            assert anew.tpo["run_id"] not in ids


def test_a_client_that_goes_away_stops_the_call_and_loses_nothing(database_url: str):
    with OpenAIServer(respond, rule=hang_at("update")) as upstream:
        with serving(upstream, database_url) as server:
            stream = server.client().chat.completions.create(
                model=MODEL, messages=ASKED, stream=True
            )
            for chunk in stream:
                if "to improve" in (getattr(chunk.choices[0].delta, "reasoning", None) or ""):
                    break
            wait_until(lambda: len(upstream.calls) == 4)
            stream.close()
            wait_until(lambda: not server.service.answers._live)
            url = f"{server.url}/metrics"
            assert "tpo_runs_in_flight 0.0" in httpx.get(url).text
            upstream.rule = None
            made = server.client().chat.completions.create(model=MODEL, messages=ASKED)
            assert made.tpo["stop_reason"] == "depth"
        assert [stage(call) for call in upstream.calls] == [*STAGES, "update"]


def test_a_client_of_a_whole_answer_that_goes_away_stops_the_call(sqlite_url: str):
    with (
        OpenAIServer(respond, rule=hang_at("sample")) as upstream,
        serving(upstream, sqlite_url) as server,
    ):
        with pytest.raises(openai.APITimeoutError):
            server.client(timeout=1).chat.completions.create(model=MODEL, messages=ASKED)
        wait_until(lambda: not server.service.answers._live)
        assert len(upstream.calls) == 1


def test_a_turn_that_calls_tools_is_paid_once_and_leaves_no_run(database_url: str):
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    with OpenAIServer(respond) as upstream:
        upstream.script.append(scripted_call("look", "{}"))
        told: list[Any] = []
        for options in ({}, {}, {"replay_seconds": 0.0}):
            with serving(upstream, database_url, options=options, depth=0) as server:
                ask = server.client().chat.completions.create
                told.append(ask(model=MODEL, messages=ASKED, tools=[tool]).choices[0].message)
        assert [call.function.name for call in told[1].tool_calls] == ["look"]
        assert told[1] == told[0]
        assert told[2].content  # the time is over: asked anew
        assert len(upstream.calls) == 3
    assert len(run_ids(database_url)) == 1


async def test_turns_are_deleted_when_their_time_is_over(
    database_url: str,
):
    """Those that another process kept, too; and nothing of anybody else's."""
    names = [str(UUID(int=number)) for number in range(3)]
    kept: dict[str, Any] = {"choices": []}
    async with open_store(database_url) as store:
        await Turns(store, 100).keep(names[0], "a", kept)
        foreign = RunnableConfig(configurable={"thread_id": "mine-turn", "checkpoint_ns": ""})
        metadata = CheckpointMetadata(source="input", step=-1, parents={})
        await store.checkpointer.aput(foreign, empty_checkpoint(), metadata, {})
        await asyncio.sleep(0.6)
        await Turns(store, 100).keep(names[1], "a", kept)  # nothing is older than that
        assert await Turns(store, 100).find(names[0], "a", 100) == kept
        with pytest.raises(Refusal, match="another request"):
            await Turns(store, 100).find(names[0], "b", 100)
        assert await Turns(store, 100).find(names[0], "b", 0) is None
        await Turns(store, 0.5).keep(names[2], "a", kept)
        found = [await Turns(store, 100).find(name, "a", 100) for name in names]
        assert found[0] is None
        assert found[2] == kept
        assert await store.checkpointer.aget_tuple(foreign)


def test_a_run_that_another_process_begins_and_drops_is_made_here(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
):
    """It had called tools there, say, and its row was gone before we looked again."""
    with OpenAIServer(respond) as upstream, serving(upstream, sqlite_url, depth=0) as server:
        leases = server.service.runs.store.leases
        hold, others = leases.hold, [True]

        def hold_after_another(run_id: str, **given: Any) -> Any:
            if others:
                others.clear()
                raise RunExistsError(f"a run {run_id!r} is stored already")
            return hold(run_id, **given)

        monkeypatch.setattr(leases, "hold", hold_after_another)
        made = server.client().chat.completions.create(model=MODEL, messages=ASKED)
        assert (made.tpo["stop_reason"], others) == ("depth", [])
        assert len(upstream.calls) == 1


def test_requests_at_the_same_time_share_one_run(sqlite_url: str):
    with OpenAIServer(respond, rule=lambda _: Behaviour(delay=0.3)) as upstream:
        with serving(upstream, sqlite_url) as server:
            answers: list[Any] = []

            def ask() -> None:
                made = server.client().chat.completions.create(model=MODEL, messages=ASKED)
                answers.append(made.choices[0].message.content)

            threads = [threading.Thread(target=ask) for _ in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
        assert len(answers) == 5
        assert len(set(answers)) == 1
        assert [stage(call) for call in upstream.calls] == STAGES


def test_a_full_server_says_when_to_come_again():
    with (
        OpenAIServer(respond, rule=hang_at("sample")) as upstream,
        serving(upstream, None, options={"max_runs": 1, "queue": 1}) as server,
    ):
        ask = server.client().chat.completions.create
        asked = [[{"role": "user", "content": question}] for question in "abc"]
        streams = [ask(model=MODEL, messages=each, stream=True) for each in asked[:2]]
        wait_until(lambda: len(server.service.answers._live) == 2)
        assert server.service.answers.waiting == 1
        with pytest.raises(openai.RateLimitError) as caught:
            ask(model=MODEL, messages=asked[2], stream=True)
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60
        upstream.rule = None
        streams[0].close()  # makes room for the one that waits
        assert [c.choices[0].finish_reason for c in streams[1]][-1] == "stop"


def test_the_first_byte_comes_before_the_model_says_anything():
    with (
        OpenAIServer(respond, rule=lambda _: Behaviour(delay=2.0)) as upstream,
        serving(upstream, None, depth=0) as server,
    ):
        started = time.monotonic()
        stream = server.client().chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        assert next(iter(stream)).choices[0].delta.role == "assistant"
        assert time.monotonic() - started < 1
        stream.close()


def test_errors_of_the_model_reach_the_client_without_its_key():
    with OpenAIServer(respond) as upstream, serving(upstream, None, depth=0) as server:
        ask = server.client().chat.completions.create
        upstream.rule = lambda _: Behaviour(status=429, headers={"Retry-After": "7"})
        with pytest.raises(openai.RateLimitError) as limited:
            ask(model=MODEL, messages=ASKED)
        assert limited.value.response.headers["retry-after"] == "7"
        denied = f"Incorrect API key provided: {CANARY}"
        upstream.rule = lambda _: Behaviour(status=401, error={"message": denied})
        with pytest.raises(openai.InternalServerError, match="Check the API key") as caught:
            ask(model=MODEL, messages=ASKED)
        assert caught.value.status_code == 502
        assert CANARY not in str(caught.value)
        with pytest.raises(openai.APIError, match="Check the API key"):
            list(ask(model=MODEL, messages=ASKED, stream=True))
        for model in (MODEL, "policy"):
            upstream.rule = lambda _: Behaviour(
                status=400, error={"code": "context_length_exceeded", "message": "too many tokens"}
            )
            with pytest.raises(openai.BadRequestError) as caught_long:
                ask(model=model, messages=ASKED)
            assert caught_long.value.code == "context_length_exceeded"


def test_a_failure_on_the_way_gives_the_best_so_far_and_the_same_request_resumes(sqlite_url: str):
    refused = {"message": "no critic today"}
    with OpenAIServer(respond) as upstream, serving(upstream, sqlite_url) as server:
        upstream.rule = lambda call: (
            Behaviour(status=400, error=refused) if stage(call) == "loss" else None
        )
        ask = server.client().chat.completions.create
        made = ask(model=MODEL, messages=ASKED)
        assert made.choices[0].message.content.startswith("answer")
        assert made.tpo["stop_reason"] == "failed"
        assert "no critic today" in made.tpo["error"]
        upstream.rule = None
        again = ask(model=MODEL, messages=ASKED)
        assert (again.tpo["stop_reason"], again.tpo["error"]) == ("depth", None)
        assert again.tpo["run_id"] == made.tpo["run_id"]
        assert [stage(call) for call in upstream.calls].count("sample") == 1


@pytest.mark.slow
def test_sigterm_lets_runs_end_and_keeps_those_that_do_not(sqlite_url: str, tmp_path: Path):
    """One that ends in time is answered; one that does not is resumed by the next server."""
    hanging = threading.Event()

    def rule(call: Call) -> Behaviour | None:
        if "hang" in str(call.messages) and stage(call) == "loss" and not hanging.is_set():
            return Behaviour(hang=True)
        return Behaviour(delay=0.3)

    arguments = ["--database", sqlite_url, "--port", "0", "--width", "2", "--depth", "1"]
    with OpenAIServer(respond, rule=rule) as upstream:
        with process(upstream, [*arguments, "--drain", "5"], tmp_path) as (url, server):
            client: Any = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
            asked = [[{"role": "user", "content": text}] for text in ("ends", "hang")]
            ask = client.chat.completions.create
            streams = [ask(model=MODEL, messages=each, stream=True) for each in asked]
            wait_until(lambda: sum(stage(call) == "loss" for call in upstream.calls) == 2)
            server.send_signal(signal.SIGTERM)
            assert [c.choices[0].finish_reason for c in streams[0]][-1] == "stop"
            with pytest.raises(openai.APIError, match="shutting down"):
                list(streams[1])
            server.wait(20)
        hanging.set()
        paid = len(upstream.calls)
        with process(upstream, arguments, tmp_path) as (url, _):
            client: Any = openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
            made = client.chat.completions.create(model=MODEL, messages=asked[1])
            assert made.tpo["stop_reason"] == "depth"
        assert [stage(call) for call in upstream.calls[paid:]] == ["loss", "gradient", "update"]


@pytest.mark.slow
def test_a_request_is_one_line_of_json_with_its_fields_when_asked(tmp_path: Path):
    with OpenAIServer(respond) as upstream:
        arguments = ["--log-json", "--port", "0", "--database", "none"]
        with process(upstream, arguments, tmp_path) as (url, server):
            path = f"{url}/v1/models/nope"
            request_id = httpx.get(path).headers["x-request-id"]
            server.terminate()
            server.wait(20)
    lines = [json.loads(line) for line in (tmp_path / "serve.log").read_text().splitlines()]
    (told,) = [line for line in lines if line.get("request_id") == request_id]
    assert (told["method"], told["path"], told["status"]) == ("GET", "/v1/models/nope", 404)


def test_a_server_that_cannot_start_says_why_in_one_line(tmp_path: Path):
    arguments = ["--port", "0", "--database", "none", "--max-cost", "1"]
    with (
        OpenAIServer(respond) as upstream,
        pytest.raises(AssertionError),
        process(upstream, arguments, tmp_path),
    ):
        pass
    (told,) = (tmp_path / "serve.log").read_text().splitlines()
    assert told.startswith("Error: max_cost=1.0 needs input_price")


@contextmanager
def process(
    upstream: OpenAIServer, arguments: list[str], folder: Path
) -> Generator[tuple[str, subprocess.Popen[str]]]:
    """`tpo serve` as a process; it is killed at the end if it still runs."""
    log = folder / "serve.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.serve.process", *arguments,
             "--model", "openai:policy", "--reward-model", "local:length"],
            cwd=ROOT,
            env={
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": str(ROOT),
                "OPENAI_API_KEY": CANARY,
                "OPENAI_BASE_URL": upstream.url,
            },
            stderr=output,
            text=True,
        )  # fmt: skip
    try:
        wait_until(lambda: "http://" in log.read_text() or server.poll() is not None)
        assert server.poll() is None, log.read_text()
        yield "http://" + log.read_text().partition("http://")[2].split()[0], server
    finally:
        server.kill()
        server.wait(10)
