"""The real LangGraph Server, asked with the official client: what Studio does behind its screen."""

import sqlite3
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import SyncLangGraphClient
from langgraph_sdk.errors import NotFoundError, PermissionDeniedError

from tests.openai_server import OpenAIServer
from tests.studio.conftest import TOKENS
from tests.studio.server import StudioServer
from tests.studio.test_docs import SERVED
from tpo_graph import TPOContext

QUERY: Any = {"messages": [{"role": "user", "content": "Say hello."}]}
NODES = {"sample", "reward_score", "select", "loss", "gradient", "update"}


@pytest.fixture(scope="module")
def client(server: StudioServer) -> Iterator[SyncLangGraphClient]:
    with server.client(TOKENS["ada"]) as client:
        yield client


@pytest.fixture(scope="module")
def assistant(client: SyncLangGraphClient) -> str:
    (assistant,) = client.assistants.search(metadata={"created_by": "system"})
    return assistant["assistant_id"]


@pytest.fixture(scope="module")
def run(client: SyncLangGraphClient) -> Any:
    """One finished run: its thread and what was streamed, by mode."""
    thread = client.threads.create()["thread_id"]
    streamed: dict[str, list[Any]] = {}
    modes: Any = ["updates", "values", "custom", "messages-tuple"]
    for part in client.runs.stream(
        thread, "tpo", input=QUERY, stream_mode=modes, durability="sync"
    ):
        streamed.setdefault(part.event, []).append(part.data)
    return thread, streamed


class TestAssistants:
    def test_the_graph_is_there(self, client: SyncLangGraphClient):
        (assistant,) = client.assistants.search(metadata={"created_by": "system"})
        assert (assistant["graph_id"], assistant["name"]) == ("tpo", "tpo")
        assert "Test-Time Preference Optimization" in (assistant["description"] or "")

    def test_its_picture_has_the_six_nodes_and_the_conditional_edge(
        self, client: SyncLangGraphClient
    ):
        graph = client.assistants.get_graph("tpo", xray=True)
        assert {node["id"] for node in graph["nodes"]} == NODES | {"__start__", "__end__"}
        assert len(graph["edges"]) == 8
        conditional = [edge for edge in graph["edges"] if edge.get("conditional")]
        assert {(e["source"], e["target"], e["data"]) for e in conditional} == {
            ("select", "loss", "deeper"),
            ("select", "__end__", "stop"),
        }

    def test_the_form_shows_every_field_with_its_bounds_and_the_configured_defaults(
        self, client: SyncLangGraphClient, assistant: str
    ):
        schema: Any = client.assistants.get_schemas(assistant)["context_schema"]
        fields = schema["properties"]
        own = TPOContext.model_json_schema()["properties"]
        assert set(fields) == set(own)
        configured = {"width": 3, "depth": 1, "temperature": 0.5}
        for name, field in fields.items():
            expected = {**own[name], "default": configured.get(name, own[name]["default"])}
            assert field == expected
            assert field["description"]
            assert set(field["langgraph_nodes"]) <= NODES
        assert (fields["width"]["minimum"], fields["width"]["maximum"]) == (1, 1024)
        assert fields["criteria"]["langgraph_type"] == "prompt"

    def test_the_state_schemas_are_there(self, client: SyncLangGraphClient, assistant: str):
        schemas: Any = client.assistants.get_schemas(assistant)
        assert "messages" in schemas["input_schema"]["properties"]
        assert {"chosen", "rewards", "history", "messages"} <= set(
            schemas["output_schema"]["properties"]
        )

    def test_an_assistant_with_another_width(self, client: SyncLangGraphClient):
        wide = client.assistants.create("tpo", context={"width": 2, "depth": 0}, name="narrow")
        out: Any = client.runs.wait(None, wide["assistant_id"], input=QUERY)
        assert len(out["samples"]) == 2
        assert out["stop_reason"] == "depth"

    def test_a_value_out_of_bounds_is_refused(self, client: SyncLangGraphClient):
        thread = client.threads.create()["thread_id"]
        out: Any = client.runs.wait(
            thread, "tpo", input=QUERY, context={"width": 0}, raise_error=False
        )
        assert "width" in str(out)


class TestRun:
    def test_updates_tell_each_step(self, run: Any):
        _, streamed = run
        steps = [step for update in streamed["updates"] for step in update]
        first = ["sample", "reward_score", "select"]
        assert steps == [*first, "loss", "gradient", "update", "reward_score", "select"]

    def test_values_are_whole_states(self, run: Any):
        _, streamed = run
        assert [len(values["messages"]) for values in streamed["values"]] == [1] * 8 + [2]
        last = streamed["values"][-1]
        assert last["messages"][-1]["content"] == last["chosen"]["response"]
        assert last["chosen"]["reward"] > last["history"][0]["max"]

    def test_custom_events(self, run: Any):
        _, streamed = run
        kinds = [event["event"] for event in streamed["custom"]]
        assert kinds[:3] == ["samples", "rewards", "new_best"]
        assert kinds[-1] == "stopped"

    def test_messages_show_the_answer_and_never_a_draft_or_a_critique(self, run: Any):
        _, streamed = run
        messages = [message for message, _ in streamed["messages"]]
        final = streamed["values"][-1]["messages"][-1]
        assert [message["content"] for message in messages] == [final["content"]]
        assert messages[0]["id"] == final["id"]

    def test_history_has_each_steps_texts_and_numbers(self, client: SyncLangGraphClient, run: Any):
        thread, _ = run
        history = client.threads.get_history(thread, limit=50)
        by_next: dict[str, Any] = {}
        for state in reversed(history):
            by_next.setdefault((state["next"] or ["end"])[0], state["values"])
        assert by_next["reward_score"]["samples"] == ["Hello" + " there" * i for i in range(3)]
        assert by_next["select"]["rewards"] == [2.0, 3.0, 5.0]
        assert by_next["loss"]["chosen"]["response"] == "Hello there there"
        assert by_next["loss"]["rejected"]["response"] == "Hello"
        assert by_next["gradient"]["loss"] == "The chosen answer says more."
        assert by_next["update"]["gradient"] == "Be polite."
        assert by_next["end"]["samples"][0] == "Hello there there Be polite. 0"

    def test_a_fork_from_the_gradient_with_another_gradient(
        self, client: SyncLangGraphClient, run: Any
    ):
        thread, streamed = run
        before = next(
            state
            for state in client.threads.get_history(thread, limit=50)
            if state["next"] == ["update"]
        )
        fork = client.threads.update_state(
            thread,
            {"gradient": "Say it in French, s'il vous plaît."},
            as_node="gradient",
            checkpoint_id=before["checkpoint"]["checkpoint_id"],
        )
        out: Any = client.runs.wait(
            thread, "tpo", input=None, checkpoint_id=fork["checkpoint"]["checkpoint_id"]
        )
        answer = out["messages"][-1]["content"]
        assert "s'il vous plaît" in answer
        assert answer != streamed["values"][-1]["messages"][-1]["content"]
        assert len(out["messages"]) == 2

    def test_the_database_holds_the_run_and_its_checkpoints(self, server: StudioServer, run: Any):
        thread, streamed = run
        with sqlite3.connect(server.folder / "tpo.db") as database:
            runs = database.execute("select run_id from tpo_runs where thread_id = ?", (thread,))
            assert runs.fetchall() == [(streamed["values"][-1]["run_id"],)]
            count = "select count(*) from checkpoints where thread_id = ?"
            assert database.execute(count, (thread,)).fetchone()[0] >= 9
        database.close()


def test_a_person_in_the_loop(client: SyncLangGraphClient, models: OpenAIServer):
    thread = client.threads.create()["thread_id"]
    context: Any = {"interrupt_at": ["select", "gradient"], "depth": 1}

    def go(**given: Any) -> Any:
        out: Any = client.runs.wait(thread, "tpo", context=context, **given)
        return out["__interrupt__"][0] if "__interrupt__" in out else out

    question = go(input=QUERY)
    assert [c["reward"] for c in question["value"]["candidates"]] == [5.0, 3.0, 2.0]
    assert set(question["response_schema"]["properties"]) >= {"chosen", "rejected", "criteria"}
    waiting: Any = client.threads.get(thread)
    assert waiting["status"] == "interrupted"
    calls = len(models.calls)
    again = go(command={"resume": {"chosen": 9}})
    assert "chosen=9" in again["value"]["error"]
    assert len(models.calls) == calls
    go(command={"resume": {"chosen": 2, "rejected": 1, "criteria": "Warmth."}})
    assert go(command={"resume": {"gradient": "Be warm."}})["value"]["stop_reason"] == "depth"
    out = go(command={"resume": {"action": "continue"}})
    assert out["messages"][-1]["content"] == "Hello there Be warm. 0"
    prompts = [str(call.messages[-1]["content"]) for call in models.calls[calls:]]
    assert "<chosen_answer>\nHello there\n</chosen_answer>" in prompts[0]
    assert "Warmth." in prompts[0]


class TestAuth:
    @pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer guess"}])
    @pytest.mark.parametrize("path", ["/assistants/search", "/threads/search", "/threads"])
    def test_without_the_token(self, server: StudioServer, path: str, headers: dict[str, str]):
        assert httpx.post(server.url + path, json={}, headers=headers).status_code == 401

    def test_what_no_rule_allows_is_refused(self, client: SyncLangGraphClient):
        with pytest.raises(PermissionDeniedError):
            client.store.put_item(["notes"], "key", {"text": "mine"})

    def test_threads_of_another_user_are_invisible(
        self, server: StudioServer, client: SyncLangGraphClient, run: Any
    ):
        thread, _ = run
        with server.client(TOKENS["bo"]) as other:
            assert thread not in {found["thread_id"] for found in other.threads.search(limit=100)}
            for read in (other.threads.get, other.threads.get_state, other.threads.get_history):
                with pytest.raises(NotFoundError):
                    read(thread)
            with pytest.raises(NotFoundError):
                other.runs.create(thread, "tpo", input=QUERY)
        assert client.threads.get(thread)["thread_id"] == thread


def test_the_documented_fork_runs(
    client: SyncLangGraphClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    def own_client(url: str) -> SyncLangGraphClient:
        assert url == "http://127.0.0.1:2024"
        return client

    monkeypatch.setattr("langgraph_sdk.get_sync_client", own_client)
    assert SERVED
    for snippet in SERVED:
        exec(compile(snippet, "docs/studio.md", "exec"), {})  # noqa: S102
    first, second, *told, answer = capsys.readouterr().out.splitlines()
    assert told[:2] == ["0 samples", "0 rewards"]
    assert told[-1].endswith(" stopped")
    assert answer
    assert "Be polite." in first
    assert "another time" in second
