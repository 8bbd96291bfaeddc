"""What a SIGKILL of the server in mid-run costs: nothing that a step had finished."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_models
from tests.openai_server import Behaviour, Call, OpenAIServer
from tests.studio.conftest import scripted
from tests.studio.scripted import respond
from tests.studio.server import StudioServer

pytestmark = pytest.mark.slow

QUERY: Any = {"messages": [{"role": "user", "content": "Say hello."}]}


class Held:
    """A model server whose `gradient` calls never come back while `holding`."""

    def __init__(self) -> None:
        self.holding = threading.Event()
        self.held = threading.Event()
        self.server = OpenAIServer(respond, rule=self._rule)

    def _rule(self, call: Call) -> Behaviour | None:
        if self.holding.is_set() and kind(call) == "gradient":
            self.held.set()
            return Behaviour(hang=True)
        return None

    def kinds(self) -> list[str]:
        """The stages whose calls were answered, in order."""
        return [kind(call) for call in self.server.calls if call.ended is not None]


def kind(call: Call) -> str:
    prompt = str(call.messages[-1]["content"])
    marks = {
        "</improved_answer>": "update",
        "fewest changes": "gradient",
        "<chosen_answer>": "loss",
    }
    return next((stage for mark, stage in marks.items() if mark in prompt), "sample")


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    held.holding.set()
    with held.server:
        yield held


@pytest.fixture
def studio(held: Held, tmp_path: Path) -> Iterator[StudioServer]:
    reward = {"TPO_REWARD_MODEL": f"local:{tiny_models.classifier()}", "TPO_DEPTH": "1"}
    with StudioServer(tmp_path, {**scripted(held.server), **reward}) as server:
        yield server
        assert "BlockingError" not in server.output()


def eventually(true: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_after_a_restart_the_run_completes_by_itself(studio: StudioServer, held: Held):
    with studio.client() as client:
        thread = client.threads.create()["thread_id"]
        run = client.runs.create(thread, "tpo", input=QUERY, durability="sync")["run_id"]
        assert held.held.wait(30)
        # The server writes its list of threads and runs every ten seconds.
        saved = studio.folder / ".langgraph_api" / ".langgraph_ops.pckl"
        eventually(lambda: saved.exists() and run.encode() in saved.read_bytes(), 30)
    studio.kill()
    held.holding.clear()
    studio.start()
    with studio.client() as client:
        out: Any = client.runs.join(thread, run)
        assert client.runs.get(thread, run)["status"] == "success"
    assert out["stop_reason"] == "depth"
    assert held.kinds() == ["sample", "loss", "gradient", "update"]


def test_without_its_list_of_runs_the_thread_goes_on_from_the_database(
    studio: StudioServer, held: Held
):
    with studio.client() as client:
        thread = client.threads.create()["thread_id"]
        client.runs.create(thread, "tpo", input=QUERY, durability="sync")
        assert held.held.wait(30)
    studio.kill()
    for file in (studio.folder / ".langgraph_api").glob("*"):
        file.unlink()
    held.holding.clear()
    studio.start()
    with studio.client() as client:
        client.threads.create(thread_id=thread)
        out: Any = client.runs.wait(thread, "tpo", input=None)
    assert out["stop_reason"] == "depth"
    assert len(out["messages"]) == 2
    assert held.kinds() == ["sample", "loss", "gradient", "update"]
