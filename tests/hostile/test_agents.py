"""Bad values through agents' surfaces and what goes on with stored runs."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from langchain.agents import create_agent

from tests.hostile.test_entry_points import judge, need_clear, policy
from tests.hostile.values import FIELDS, TEXTS, VALUES
from tpo_graph import (
    ChatTPO,
    TPOMiddleware,
    extend,
    make_rows,
    optimize,
    optimize_many,
    resume,
    run_batch,
)
from tpo_graph.cli import tpo
from tpo_graph.session.rescore import rescore
from tpo_graph.testing import ScriptedChatModel

SHORT: dict[str, Any] = {"depth": 0, "width": 1}
TRIED = [(field, value) for field in [*FIELDS, "pick", "stop"] for value in VALUES]


def test_options_of_a_chat_model() -> None:
    chat = ChatTPO(model=policy(), reward_model=judge, **SHORT)
    for field, value in TRIED:
        # LangChain itself takes `stop`, and a depth or width of 1 is a right answer.
        if field == "stop" or (field in ("width", "depth") and value in (1, 1.5)):
            continue
        for call in (
            lambda f=field, v=value: chat.invoke("Q", **{f: v}).text,
            lambda f=field, v=value: TPOMiddleware(
                **{"reward_model": judge, "model": policy(), **SHORT, f: v}
            ),
        ):
            try:
                assert call()
            except Exception as error:
                need_clear(error, (field, value))
    for text in TEXTS.values():
        try:
            assert chat.invoke(text).text
        except Exception as error:
            need_clear(error, text)


@pytest.mark.filterwarnings("ignore")
def test_wishes_in_an_agents_state() -> None:
    middleware = TPOMiddleware(judge, model=policy(), **SHORT)
    agent = create_agent(ScriptedChatModel(replies=["a draft"]), tools=[], middleware=[middleware])
    for wish in [*VALUES, *({field: value} for field, value in TRIED)]:
        given: Any = {"messages": [("user", "Q")], "tpo": wish}
        try:
            assert agent.invoke(given)["messages"][-1].text, wish
        except Exception as error:
            need_clear(error, wish)


def test_many_queries_at_once() -> None:
    for given in ([*TEXTS.values()], [*VALUES], VALUES[0], None, "text", [[]], [[{}]]):
        try:
            many: Any = given
            found = optimize_many(many, model=policy(), reward_model=judge, **SHORT)
        except Exception as error:
            need_clear(error, given)
        else:
            for each in found:
                if isinstance(each, Exception):
                    need_clear(each, given)


def test_stored_runs_are_named_by_anything(database_url: str) -> None:
    given: dict[str, Any] = {"model": policy(), "reward_model": judge, "database": database_url}
    optimize("Q", run_id="one", **SHORT, **given)
    for name in [*VALUES, *TEXTS.values()]:
        calls: list[Any] = [
            lambda name=name: resume(name, **given),
            lambda name=name: extend(name, depth=1, **given),
            lambda name=name: rescore(name, reward_model=judge, database=database_url),
            lambda name=name: extend("one", depth=name, **given),
        ]
        for number, call in enumerate(calls):
            if number == 3 and name in (1, 1.5):
                continue
            try:
                call()
            except Exception as error:
                need_clear(error, (number, name))


def test_names_and_rows_of_a_batch(database_url: str) -> None:
    given: dict[str, Any] = {"model": policy(), "reward_model": judge, "database": database_url}
    rows: list[Any] = [{"prompt": "Q", "id": value} for value in VALUES]
    rows += [{"prompt": value} for value in VALUES] + [{"messages": value} for value in VALUES]
    rows += [{"prompt": "Q", "id": f"{field}{i}", field: value}
             for i, (field, value) in enumerate(TRIED)]  # fmt: skip
    done = run_batch(make_rows(rows), name="rows", **given, **SHORT)
    assert done.done + done.failed > len(TRIED)


def test_the_commands_that_evaluate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    Path("empty.jsonl").write_text("")
    Path("bytes.jsonl").write_bytes(b"\xff\xfe{")
    Path("list.toml").write_text("a = [")
    texts = [text[:2_000] for text in TEXTS.values() if "\x00" not in text]
    for command in ("compare", "analyze", "benchmark", "check", "report", "view", "serve", "batch"):
        for word in [*texts, "empty.jsonl", "bytes.jsonl", ".", "/proc/self/mem", "--nope"]:
            words = [command, "--config", "list.toml", word]
            done = CliRunner().invoke(tpo, words, standalone_mode=False)
            assert done.exception is not None, words
            need_clear(done.exception, words)
