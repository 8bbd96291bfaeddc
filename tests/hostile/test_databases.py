"""Bad values through every entry point that keeps something, on both databases."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from langchain.agents import create_agent

from tests.hostile.test_entry_points import answers_or_refuses, judge, need_clear, policy
from tests.hostile.values import TEXTS
from tests.openai_server import OpenAIServer
from tpo_graph import TPOMiddleware, aoptimize, create_tpo_graph, run_batch
from tpo_graph.cli import tpo
from tpo_graph.rows import make_rows
from tpo_graph.store import open_store
from tpo_graph.testing import ScriptedChatModel

SHORT: dict[str, Any] = {"depth": 0, "width": 2}


async def test_names_and_ids(database_url: str) -> None:
    async with open_store(database_url) as store:
        for text in TEXTS.values():
            for given in ({"run_id": text}, {"criteria": text}):
                await answers_or_refuses(
                    lambda given=given: aoptimize(
                        "Q", model=policy(), reward_model=judge, database=store, **SHORT, **given
                    )
                )


def test_batches_of_any_name_with_any_rows(database_url: str) -> None:
    rows = list(make_rows([{"prompt": text, "id": name} for name, text in TEXTS.items()]))
    for name in [*TEXTS.values(), "rows"]:
        try:
            given: Any = rows if name == "rows" else rows[2:3]
            done = run_batch(
                given, name=name, model=policy(), reward_model=judge, database=database_url, **SHORT
            )
        except Exception as error:
            need_clear(error, name)
        else:
            # Rows that are empty or no text say so, the others are answered.
            assert done.failed == (5 if name == "rows" else 0), name


async def test_a_graph_that_keeps_its_steps(database_url: str) -> None:
    async with open_store(database_url) as store:
        graph = create_tpo_graph(
            policy(), judge, cache=store.cache, checkpointer=store.checkpointer, defaults=SHORT
        )
        for name, text in TEXTS.items():
            for state in (
                {"messages": [("user", text)]},
                {"messages": [("system", text), ("user", "Q")]},
                {"messages": [("user", "Q")], "drafts": [text, "longer"]},
            ):
                try:
                    out = await graph.ainvoke(
                        state, {"configurable": {"thread_id": f"{name}{len(state)}"}}
                    )
                except Exception as error:
                    need_clear(error, (name, state))
                else:
                    assert out["messages"][-1].text, name


async def test_an_agent_whose_runs_are_kept(database_url: str) -> None:
    async with open_store(database_url) as store:
        for name, text in TEXTS.items():
            middleware = TPOMiddleware(judge, model=policy(), depth=1, width=2, cache=store.cache)
            draft = ScriptedChatModel(replies=[f"{text}."])
            agent = create_agent(draft, tools=[], middleware=[middleware])
            out = await agent.ainvoke({"messages": [("user", f"Q {text}")]})
            answer = out["messages"][-1]
            assert "error" not in answer.response_metadata["tpo"], (name, answer.response_metadata)
            run_id = answer.response_metadata["tpo"]["run_id"]
            assert await store.cache.candidates(run_id), name


def test_the_commands(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "score.py").write_text("def score(query, response): return float(len(response))\n")
    rows, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    rows.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS.values()))
    texts = list(TEXTS.values())

    def said(messages: Any, seed: Any, index: int) -> str:
        return f"{texts[(len(str(messages)) + index) % len(texts)]}{index}"

    def run(*words: str, fails: bool | None = None) -> str:
        done = CliRunner().invoke(tpo, list(words), standalone_mode=False)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            need_clear(done.exception, words)
        if fails is not None:
            assert (done.exception is not None) == fails, (words, done.output, done.exception)
        return done.output

    with OpenAIServer(said) as server:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("TPO_DATABASE_URL", database_url)
        monkeypatch.setenv("TPO_MODEL", "openai:m")
        monkeypatch.setenv("TPO_REWARD_MODEL", "python:score.py#score")
        short = ("--depth", "0", "--width", "2")
        for name, text in TEXTS.items():
            empty = not text.strip()
            answer = run("run", *short, "--json", "--", text, fails=empty)
            if not empty:
                assert json.loads(answer[answer.index("{") :])["response"], name
            run("run", *short, "--criteria", text, "--", "Q")
        assert "9 of 14" in run("batch", str(rows), "-o", str(out), *short)
        assert len(out.read_text().splitlines()) == len(TEXTS)
        for text in TEXTS.values():
            for words in (
                ("runs", "show", "--", text),
                ("runs", "list", "--batch", text),
                ("runs", "list", "--model", text, "--reward-model", text),
                ("runs", "resume", "--", text),
                ("batches", "show", "--", text),
                ("runs", "prune", "--older-than", text),
            ):
                run(*words)
        for line in run("runs", "export", fails=False).strip("\n").split("\n"):
            json.loads(line)
        run("runs", "list", fails=False)
        run("report", "-o", str(tmp_path / "r.html"), fails=False)
