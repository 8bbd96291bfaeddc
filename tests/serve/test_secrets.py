"""The key of the model's server stays in the process: no reply, page, log or row has it."""

import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from langchain_openai import ChatOpenAI
from sqlalchemy import create_engine, inspect, text

from tests.kills.harness import respond
from tests.openai_server import Behaviour, Call, OpenAIServer
from tests.serve.serving import Serving
from tests.serve.test_runs import MODEL, stage

KEY = "f00dfacef00dface-upstream-4711"
"""Of no form by which a key could be told from other words."""


def rows(database: str) -> Iterator[str]:
    """Every row of every table."""
    engine = create_engine(database)
    with engine.connect() as connection:
        for table in inspect(connection).get_table_names():
            for row in connection.execute(text(f'SELECT * FROM "{table}"')):
                yield str(tuple(row))
    engine.dispose()


def telling(status: int, at: str) -> Any:
    """A server that refuses one step, and says with which key it was asked."""

    def rule(call: Call) -> Behaviour | None:
        sent = call.headers["authorization"]
        wrong = {"message": f"Incorrect API key provided: {KEY} ({sent})"}
        return Behaviour(status=status, error=wrong) if stage(call) == at else None

    return rule


def test_the_key_of_the_models_server_is_told_to_nobody_else(
    database_url: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG, "tpo_graph")
    told: list[str] = []
    with OpenAIServer(respond) as upstream:
        upstream.models = [{"id": "policy", "object": "model", "max_model_len": 4096}]
        model: Any = ChatOpenAI(model="policy", base_url=upstream.url, api_key=KEY, max_retries=0)  # pyright: ignore
        with Serving(database_url, model=model) as server:

            def ask(number: int, name: str = MODEL, **more: Any) -> None:
                messages = [{"role": "user", "content": f"Question {number}?"}]
                body: dict[str, Any] = {"model": name, "messages": messages, **more}
                if path := body.pop("path", None):
                    body["input"] = body.pop("messages")
                reply = server.post(body, path or "chat/completions")
                told.extend([str(reply.headers), reply.text])

            cases: list[dict[str, Any]] = [
                {},
                {"stream": True},
                {"path": "responses"},
                {"name": "policy"},
            ]
            cases += [{**case, "stream": True} for case in cases[2:]]
            rules = [telling(s, at) for s in (400, 401, 429, 500) for at in ("sample", "loss")]
            for at, rule in enumerate([None, *rules]):
                upstream.rule = rule
                for more, case in enumerate(cases):
                    ask(10 * at + more, **case)
            seen = {call.headers["authorization"] for call in upstream.calls}
            assert seen == {f"Bearer {KEY}"}

            listed = httpx.get(f"{server.url}/v1/models").text
            runs = [row.partition("'")[2][:36] for row in rows(database_url)]
            runs = sorted({run for run in runs if run.count("-") == 4})
            assert len(runs) > 20
            pages = ["/", "/metrics", *(f"/runs/{run}" for run in runs)]
            pages += [f"/v1/tpo/runs/{run}" for run in runs]
            pages += [f"/compare?run={runs[0]}&run={runs[1]}", "/runs/none", "/v1/models/none"]
            told += [listed, *(httpx.get(f"{server.url}{page}").text for page in pages)]
    everywhere = [*told, caplog.text, *rows(database_url)]
    assert len(everywhere) > 200
    assert not [each[:1000] for each in everywhere if KEY in each]
    assert "Question 0?" in "".join(everywhere)
