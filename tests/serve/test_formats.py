"""`response_format`: what breaks it never wins; pictures reach the policy and nobody else."""

import json
from typing import Any

import httpx
import openai
import pytest
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from tests.openai_server import OpenAIServer
from tests.serve.serving import Serving

MODEL = "tpo/policy"


class City(BaseModel):
    """The form."""

    name: str
    people: int


def respond(messages: list[dict[str, Any]], seed: int | None, index: int) -> str:
    """Longer is better here, and the longest drafts and rewrites break the form."""
    prompt = str(messages[-1]["content"])
    fits = json.dumps({"name": "Oslo" + "o" * index, "people": 700_000})
    breaks = f"Here you are, with pleasure and at length: {fits}"
    if "</improved_answer>" in prompt:
        better = json.dumps({"name": "Oslooooooooooo", "people": 717_710})
        return f"<improved_answer>{better if index else breaks}</improved_answer>"
    if "<chosen_answer>" in prompt:
        return "The name could be longer."
    return breaks if index == 0 else fits


def no_json(messages: list[dict[str, Any]], seed: int | None, index: int) -> str:
    return "no JSON"


def serving(upstream: OpenAIServer, database: str | None = None) -> Serving:
    model = ChatOpenAI(model="policy", base_url=upstream.url, api_key="k", max_retries=0)  # pyright: ignore
    return Serving(database, model=model, width=3)


def test_the_answer_keeps_to_the_schema_and_the_critic_knows_it(sqlite_url: str):
    with OpenAIServer(respond) as upstream, serving(upstream, sqlite_url) as server:
        made = server.client().chat.completions.parse(
            model=MODEL, messages=[{"role": "user", "content": "A city?"}], response_format=City
        )
        assert made.choices[0].message.parsed == City(name="Oslooooooooooo", people=717_710)
        assert made.tpo["iteration"] == 1
        drafts, loss, *_, update = upstream.calls
        assert drafts.params["n"] == 3
        assert drafts.params["response_format"]["json_schema"]["name"] == "City"
        assert "people" in str(loss.messages)
        assert "people" in str(update.messages)
        assert "response_format" not in update.params
        again = server.client().responses.parse(model=MODEL, input="A city?", text_format=City)
        assert again.output_parsed == made.choices[0].message.parsed


def test_drafts_that_all_break_the_form_come_back_as_they_are():
    with OpenAIServer(no_json) as upstream, serving(upstream) as server:
        made = server.client().chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "A city?"}],
            response_format={"type": "json_object"},
        )
        assert made.choices[0].message.content == "no JSON"
        assert len(made.choices) == 1
        assert len(upstream.calls) == 1


def test_what_breaks_the_form_is_told_as_that_and_costs_no_score(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
):
    """A draft that the reward model cannot score costs the others nothing either."""
    scored: list[str] = []

    def reward(query: str, response: str) -> float:
        scored.append(response)
        return float("nan") if "Oslooo" in response else 1.0

    with OpenAIServer(respond) as upstream:
        model = ChatOpenAI(model="policy", base_url=upstream.url, api_key="k")  # pyright: ignore
        with Serving(sqlite_url, model=model, reward_model=reward, width=4, depth=0) as server:
            made = server.client().chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": "A city?"}],
                response_format={"type": "json_object"},
                n=1,
            )
            path = f"{server.url}/v1/tpo/runs/{made.tpo['run_id']}"
            left_out = httpx.get(path).json()["unusable"]
    assert made.tpo["history"][0]["n"] == 1
    broken, *others = [each["why"] for each in left_out]
    assert "the response does not keep to the request's response_format" in broken
    assert "response_format" in caplog.text
    assert all("nan" in other for other in others)
    assert len(others) == 2
    assert scored.count(json.dumps({"name": "Osloo", "people": 700_000})) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"type": "xml"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nothing"}}},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$schema": []}}},
    ],
)
def test_a_wrong_form_is_refused(wrong: Any):
    with (
        OpenAIServer(respond) as upstream,
        serving(upstream) as server,
        pytest.raises(openai.BadRequestError, match="response_format"),
    ):
        server.client().chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "?"}], response_format=wrong
        )


def test_a_schema_makes_the_server_fetch_nothing():
    with OpenAIServer(respond) as upstream, serving(upstream) as server:
        schema = {"$ref": f"{upstream.url}/schema.json"}
        made = server.client().chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "A city?"}],
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        )
        assert made.choices[0].message.content
        assert len(upstream.calls) == 1


def test_pictures_reach_the_policy_and_are_words_to_the_reward_model(sqlite_url: str):
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    text = {"type": "text", "text": "What is it?"}
    seen: list[str] = []

    def reward(query: str, response: str) -> float:
        seen.append(query)
        return float(len(response))

    with OpenAIServer(respond) as upstream:
        model = ChatOpenAI(model="policy", base_url=upstream.url, api_key="k")  # pyright: ignore
        with Serving(sqlite_url, model=model, reward_model=reward) as server:
            made = server.client().chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": [text, picture]}]
            )
        assert made.choices[0].message.content
        assert upstream.calls[0].messages[0]["content"][1] == picture
    assert set(seen) == {"What is it?\n[image]"}
