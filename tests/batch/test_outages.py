"""Batches outlive model servers that restart, run out of quota or fail in passing."""

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from langchain_openai import ChatOpenAI
from langgraph.runtime import RunControl

from tests.batch.test_job import look
from tests.kills.harness import respond
from tests.openai_server import Behaviour, Call, OpenAIServer
from tpo_graph import optimize_many
from tpo_graph.batch.job import BatchProgress, run_batch
from tpo_graph.errors import ServerAwayError
from tpo_graph.rewards.vllm import VLLMRewardModel
from tpo_graph.rows import make_rows
from tpo_graph.testing import prefer_longer

QUESTIONS = [f"question {n}" for n in range(10)]


def slowly(call: Call) -> Behaviour:
    return Behaviour(delay=0.05)


def chat(url: str) -> ChatOpenAI:
    return ChatOpenAI(model="m", base_url=url, api_key="sk-fake", max_retries=0)  # type: ignore[arg-type]


def go(database: str, url: str, **options: Any) -> BatchProgress:
    given: dict[str, Any] = {"reward_model": prefer_longer, "depth": 1, "width": 2, "seed": 1}
    given = {"max_in_flight": 4, **given, **options}
    return run_batch(
        make_rows(options.pop("values", QUESTIONS)),
        name="b",
        database=database,
        model=chat(url),
        **{name: value for name, value in given.items() if name != "values"},
    )


class ServerProcess:
    """A model server that can be killed and started again at the same address."""

    def __init__(self, log: Path) -> None:
        self.log, self.port, self.url = log, 0, ""
        self.start()

    def start(self) -> None:
        names = ["--responder", "tests.kills.harness:respond", "--rule", f"{__name__}:slowly"]
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.openai_server", "--log", str(self.log)),
                *("--port", str(self.port), *names),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            self.url = stdout.readline().strip()
        self.port = int(self.url.split(":")[2].split("/")[0])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def server_process(log: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(log)
    try:
        yield server
    finally:
        server.kill()


def test_a_server_that_is_killed_and_started_again_fails_no_row_and_answers_nothing_twice(
    tmp_path: Path, sqlite_url: str
) -> None:
    log = tmp_path / "calls.jsonl"
    seen: list[BatchProgress] = []
    restarts: list[threading.Timer] = []
    with server_process(log) as server:

        def watch(progress: BatchProgress) -> None:
            seen.append(progress)
            if progress.done == 3 and not restarts:
                server.kill()
                restarts.append(threading.Timer(1.5, server.start))
                restarts[0].start()

        end = go(sqlite_url, server.url, on_progress=watch)
        restarts[0].join()
    assert (end.done, end.failed, end.away) == (len(QUESTIONS), 0, None)
    told = [progress.waiting for progress in seen if progress.waiting]
    assert f"waiting for 'openai:m at 127.0.0.1:{server.port}' until " in told[0]
    assert seen[-1].waiting is None
    records = [json.loads(line) for line in log.read_text().splitlines()]
    starts: dict[int, str] = {}
    answered: Counter[str] = Counter()
    for record in records:  # ids begin anew with the second process
        if record["event"] == "start":
            asked = {"messages": record["messages"], "params": record["params"]}
            starts[record["id"]] = json.dumps(asked, sort_keys=True)
        else:
            answered[starts[record["id"]]] += 1
    # A reply that was sent may have been lost with the server's last breath.
    assert sum(count - 1 for count in answered.values()) <= 1
    assert len(answered) == 4 * len(QUESTIONS)


def test_a_quota_window_is_waited_for_with_few_probes(sqlite_url: str) -> None:
    until = [0.0]
    refused: list[float] = []

    def rule(call: Call) -> Behaviour | None:
        if len(server.calls) == 6:
            until[0] = time.monotonic() + 3.0
        if time.monotonic() < until[0]:
            refused.append(time.monotonic())
            return Behaviour(status=429, error={"message": "quota exceeded"})
        return None

    with OpenAIServer(respond, rule=rule) as server:
        end = go(sqlite_url, server.url)
    assert (end.done, end.failed) == (len(QUESTIONS), 0)
    assert 0 < len(refused) <= 4 + 3  # what was in flight, then one by one


def test_a_reward_server_is_waited_for_too(sqlite_url: str) -> None:
    calls: list[int] = []

    class Flaky(VLLMRewardModel):
        async def score(self, conversation: Any, responses: Any) -> list[float]:
            calls.append(1)
            if len(calls) in (3, 4):
                return await super().score(conversation, responses)  # nobody listens there
            return [float(len(response)) for response in responses]

    with OpenAIServer(respond) as server:
        reward = Flaky("http://127.0.0.1:9", "m", retries=0)
        end = go(sqlite_url, server.url, values=QUESTIONS[:3], reward_model=reward, max_in_flight=1)
        assert (end.done, end.failed) == (3, 0)
        assert len(server.calls) == 4 * 3


def test_a_server_that_stays_away_stops_the_batch_which_resumes(sqlite_url: str) -> None:
    away: list[bool] = []
    with OpenAIServer(respond) as server:
        server.rule = lambda call: Behaviour(status=503) if away else None

        def watch(progress: BatchProgress) -> None:
            away.extend([True] * (progress.done == 2))

        options: dict[str, Any] = {"max_in_flight": 2}
        end = go(sqlite_url, server.url, on_progress=watch, wait_for_server=1.0, **options)
        assert (end.failed, end.unfinished) == (0, len(QUESTIONS) - end.done)
        assert end.away is not None
        assert "was away for 1 s. Start it" in end.away
        assert end.done < 5
        paid = sum(call.status == 200 for call in server.calls)
        away.clear()
        asked = len(server.calls)
        end = go(sqlite_url, server.url, **options)
        assert (end.done, end.failed, end.away) == (len(QUESTIONS), 0, None)
        assert paid + len(server.calls) - asked == 4 * len(QUESTIONS)
        server.rule = lambda call: Behaviour(status=503)
        end = go(sqlite_url, server.url, values=["new", *QUESTIONS], wait_for_server=0, **options)
        assert (end.failed, end.away) == (1, None)


def test_a_batch_that_waits_can_be_stopped_at_once(sqlite_url: str) -> None:
    control = RunControl()

    def watch(progress: BatchProgress) -> None:
        if progress.waiting:
            control.request_drain("stop")

    with OpenAIServer(respond) as server:
        server.rule = lambda call: Behaviour(status=503) if len(server.calls) > 8 else None
        began = time.monotonic()
        end = go(sqlite_url, server.url, on_progress=watch, control=control)
        assert time.monotonic() - began < 10
        assert (end.failed, end.away) == (0, None)
        assert end.unfinished
        server.rule = None
        assert go(sqlite_url, server.url).done == len(QUESTIONS)
        assert sum(call.status == 200 for call in server.calls) == 4 * len(QUESTIONS)


def test_optimize_many_waits_and_then_says_that_the_server_is_away() -> None:
    with OpenAIServer(respond) as server:
        server.rule = lambda call: Behaviour(status=503) if len(server.calls) == 4 else None
        options: dict[str, Any] = {"reward_model": prefer_longer, "depth": 0, "width": 2}
        results = optimize_many(QUESTIONS[:4], model=chat(server.url), **options)
        assert all(not isinstance(result, Exception) for result in results)
        assert len(server.calls) == 5
        server.rule = lambda call: Behaviour(status=503) if len(server.calls) > 7 else None
        results = optimize_many(
            QUESTIONS[:4],
            model=chat(server.url),
            max_in_flight=1,
            wait_for_server=1.0,
            **options,
        )
    assert [isinstance(result, ServerAwayError) for result in results] == [False, False, True, True]


@pytest.mark.parametrize(("status", "asked_again"), [(500, True), (403, False)])
def test_rows_are_retried_once_at_the_end_unless_they_are_at_fault(
    sqlite_url: str, status: int, asked_again: bool
) -> None:
    seen: Counter[str] = Counter()

    def rule(call: Call) -> Behaviour | None:
        prompt = str(call.messages[-1]["content"])
        seen[prompt] += 1
        first = prompt in QUESTIONS[::3] and seen[prompt] == 1
        return Behaviour(status=status, error={"message": "no"}) if first else None

    with OpenAIServer(respond, rule=rule) as server:
        end = go(sqlite_url, server.url, depth=0)
    failed = 0 if asked_again else 4
    assert (end.done, end.failed) == (len(QUESTIONS) - failed, failed)
    assert end.new == len(QUESTIONS)
    assert [row["error"] is None for row in look(sqlite_url)].count(False) == failed
    assert seen[QUESTIONS[0]] == 1 + asked_again


def test_failed_rows_are_retried_under_other_limits_and_nothing_else_is(sqlite_url: str) -> None:
    def rule(call: Call) -> Behaviour | None:
        too_long = call.params["max_completion_tokens"] > 100
        asked = str(call.messages)
        if "question 3" in asked and "</improved_answer>" in asked and too_long:
            return Behaviour(status=400, error={"message": "no"})
        return None

    with OpenAIServer(respond, rule=rule) as server:
        end = go(sqlite_url, server.url, max_tokens=500)
        if end.done == len(QUESTIONS):  # the run ended with the best answer it had
            assert look(sqlite_url)[3]["error"] is not None
        with pytest.raises(Exception, match="--retry-failed"):
            go(sqlite_url, server.url, max_tokens=50)
        asked = len(server.calls)
        end = go(sqlite_url, server.url, max_tokens=50, retry_failed=True)
        assert (end.done, end.failed) == (len(QUESTIONS), 0)
        again = server.calls[asked:]
        assert [call.params["max_completion_tokens"] for call in again] == [50]  # the update alone
        asked = len(server.calls)
        end = go(sqlite_url, server.url, max_tokens=500)
        assert (end.done, len(server.calls)) == (len(QUESTIONS), asked)
