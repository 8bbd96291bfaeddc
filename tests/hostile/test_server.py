"""The real LangGraph Server and a caller who means harm: nothing leaves, nothing is read."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.hostile.values import FIELDS, TEXTS, VALUES
from tests.openai_server import OpenAIServer
from tests.studio.conftest import scripted
from tests.studio.scripted import respond
from tests.studio.server import StudioServer

pytestmark = pytest.mark.slow

CANARY = "CANARY0x5eed"
QUERY: Any = {"messages": [{"role": "user", "content": "Say hello."}]}
INNER = "TypeError|KeyError|AttributeError|ValidationError|Unicode|sqlalchemy|psycopg"
"""What an error is called that nobody has expected."""
KINDS = ("policy", "critic", "reward_model")


class Attacker(HTTPServer):
    """Writes down whatever reaches it."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        super().__init__(("127.0.0.1", 0), _Note)


class _Note(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.seen.append(f"{self.path}\n{self.headers}")  # type: ignore[attr-defined]
        self.send_response(500)
        self.end_headers()

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


def answer(messages: list[dict[str, Any]], seed: int | None, index: int) -> str:
    try:
        return respond(messages, seed, index)
    except IndexError:  # what was asked has tags of its own
        return f"<improved_answer>A better answer {index}.</improved_answer>"


@pytest.fixture
def models() -> Iterator[OpenAIServer]:
    with OpenAIServer(answer) as server:
        yield server


@pytest.fixture
def attacker() -> Iterator[Attacker]:
    server = Attacker()
    Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def caller(server: StudioServer) -> "Caller":
    return Caller(server)


@pytest.fixture
def server(
    models: OpenAIServer,
    tmp_path: Path,
    database_url: str,
) -> Iterator[StudioServer]:
    (tmp_path / "private.toml").write_text(f"{CANARY} = [")
    (tmp_path / "tpo.toml").write_text('[reward_models]\nbrief = "judge:openai:brief"\n')
    environment = {
        **scripted(models),
        "TPO_DATABASE_URL": database_url,
        "TPO_CONFIG": "tpo.toml",
        "TPO_WIDTH": "2",
        "TPO_DEPTH": "1",
        **{f"{name}_API_KEY": CANARY for name in ("VLLM", "SGLANG", "OPENAI", "ANTHROPIC")},
    }
    with StudioServer(tmp_path, environment) as server:
        yield server


class Caller:
    """Posts to the server and keeps what it was told."""

    def __init__(self, server: StudioServer) -> None:
        self.url = server.url
        self.told: list[str] = []

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        # As ASCII: half characters travel as escapes, as any client could send them.
        content = json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        reply = httpx.post(self.url + path, content=content, headers=headers, timeout=120)
        self.told.append(reply.text)
        return reply

    def run(self, *, assistant: str = "tpo", given: Any = QUERY, **body: Any) -> str:
        """One run: its error, or an empty string when it answered."""
        reply = self.ask("/runs/wait", {"assistant_id": assistant, "input": given, **body})
        if reply.status_code in (400, 422):
            return reply.text
        assert reply.status_code == 200, reply.text[:500]
        out = reply.json()
        return "" if "chosen" in out else json.dumps(out, ensure_ascii=False)


def specs(attacker: Attacker, folder: Path) -> list[str]:
    url = f"http://127.0.0.1:{attacker.server_port}"
    return [
        f"vllm:{url}/#rm",
        f"sglang:{url}#rm",
        f"ensemble:{folder}/private.toml",
        f"length-penalty:{folder}/private.toml",
        "local:/etc",
        f"python:{folder}/private.toml#score",
        f"command:/usr/bin/env cat {folder}/private.toml",
        f"judge:{folder}/private.toml",
        "openai:gpt-5",
        url,
        "/etc/passwd",
        "__class__",
    ]


def test_whoever_sets_the_context_reaches_no_key_no_file_and_no_other_server(
    server: StudioServer,
    attacker: Attacker,
    models: OpenAIServer,
) -> None:
    caller = Caller(server)
    assert caller.run() == ""
    calls = len(models.calls)

    def refused(error: str) -> None:
        assert "is not a choice of this graph" in error, error[:500]

    def attempt(wanted: dict[str, str]) -> None:
        refused(caller.run(context=wanted))

    def every_way(wanted: dict[str, str]) -> None:
        refused(caller.run(config={"configurable": wanted}))
        for way in ({"context": wanted}, {"config": {"configurable": wanted}}):
            made = caller.ask("/assistants", {"graph_id": "tpo", "name": str(uuid4()), **way})
            refused(caller.run(assistant=made.json()["assistant_id"]))

    every = specs(attacker, server.folder)
    with ThreadPoolExecutor(8) as many:
        list(many.map(attempt, [{kind: spec} for kind in KINDS for spec in every]))
        list(many.map(every_way, [{kind: every[0]} for kind in KINDS]))
    # It is refused before anything is asked, a critic that only later steps need as well.
    assert len(models.calls) == calls

    # What the operator named is a choice; options of a connection are nobody's to send.
    assert caller.run(context={"reward_model": "brief"}) == ""
    assert "brief" in {call.params["model"] for call in models.calls[calls:]}
    for name in ("reward_model_options", "model_options", "prompts", "database", "dept", "tpo"):
        error = caller.run(context={name: {"base_url": "http://127.0.0.1:9"}})
        assert f"there is no setting '{name}'" in error, error[:500]
    assert "did you mean 'depth'" in caller.run(context={"dept": 1})
    # Nor is another run's id: its rows would be written over.
    for name in ("tpo_run_id", "tpo_answer_id"):
        assert "there is no setting" in caller.run(config={"configurable": {name: "another's"}})

    assert attacker.seen == []
    shown = "\n".join([*caller.told, server.output()])
    assert CANARY not in shown
    assert "root:" not in shown


def test_bad_values_over_the_server(caller: Caller) -> None:
    def clear(error: str, given: object) -> None:
        if error:
            assert len(error) < 3_000, f"{given!r:.200}: {error:.500}"
            assert re.search(r"(Configuration|Policy|Reward)Error|detail", error), error
            assert not re.search(INNER, error), f"{given!r:.200}: {error:.500}"

    def text(text: str) -> None:
        given = {"messages": [{"role": "user", "content": text}]}
        clear(caller.run(given=given, context={"depth": 0}), text)
        clear(caller.run(context={"criteria": text}), text)

    def value(case: tuple[str, Any]) -> None:
        field, value = case
        clear(caller.run(context={"width": 1, "depth": 0, field: value}), case)

    def drafts(given: Any) -> None:
        clear(caller.run(given={**QUERY, "drafts": given}), given)

    sent = [v for v in VALUES if not isinstance(v, bytes)]
    values = [(f, v) for f in FIELDS for v in sent if (f, v) not in (("width", 0), ("depth", 1))]
    with ThreadPoolExecutor(8) as many:
        list(many.map(text, TEXTS.values()))
        list(many.map(value, values))
        list(many.map(drafts, [5, "text", [5], [None], {"a": 1}, ["\ud800\x00"]]))
    assert caller.run() == ""
