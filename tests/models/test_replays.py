"""Providers as they are: requests and replies of each family, served by a real HTTP server.

The files in replays/ name their source: recorded from a running server, or written by hand. The
first reply whose `when` fits a request (its `n`, the role of its first message) is sent.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import AzureChatOpenAI, ChatOpenAI

from tests.models.test_sampling import sampling
from tests.openai_server import Behaviour, Call, OpenAIServer
from tpo_graph.errors import PolicyError
from tpo_graph.models.sampling import generate

FILES = sorted((Path(__file__).parent / "replays").glob("*.json"))
CASES = [
    pytest.param(file, case, id=f"{file.stem}: {case['name']}")
    for file in FILES
    for case in json.loads(file.read_text(encoding="utf-8"))["cases"]
]


def model(server: OpenAIServer, file: Path) -> BaseChatModel:
    if file.stem != "azure":
        return ChatOpenAI(model="m", base_url=server.url, api_key="k", max_retries=0)
    return AzureChatOpenAI(
        azure_endpoint=server.url.removesuffix("/v1"),
        azure_deployment="d",
        api_version="v",
        api_key="k",
        max_retries=0,
    )


def reply(replies: list[dict[str, Any]], call: Call) -> Behaviour:
    asked = {"n": call.params.get("n"), "role": call.messages[0]["role"]}
    sent = next(r for r in replies if r.get("when", {}).items() <= asked.items())
    body = sent["body"]
    if isinstance(body, dict) and len(body.get("choices", ())) > (asked["n"] or 1):
        body = {**body, "choices": body["choices"][: asked["n"] or 1]}
    return Behaviour(status=sent.get("status", 200), body=body)


@pytest.mark.parametrize(("file", "case"), CASES)
async def test_replayed(file: Path, case: dict[str, Any]) -> None:
    ask, expected = case["ask"], case["expect"]
    messages = [SystemMessage("s")] * ask.get("system", False) + [HumanMessage("u")]
    settings = sampling(temperature=ask.get("temperature"))
    with OpenAIServer(rule=lambda call: reply(case["replies"], call)) as server:
        asking = generate(
            model(server, file), messages, ask["n"], settings, stage=ask.get("stage", "sample")
        )
        if "error" in expected:
            with pytest.raises(PolicyError) as error:
                await asking
            assert expected["error"] in str(error.value)
        else:
            found = await asking
            assert found.texts == expected["texts"]
            assert found.finish_reasons == expected["finish"]
            assert [each.why for each in found.unusable] == expected.get("unusable", [])
            for name, counter in (
                ("prompt", "prompt_tokens"),
                ("completion", "completion_tokens"),
                ("cached", "cached_tokens"),
            ):
                if name in expected:
                    assert found.usage[counter] == expected[name]
        assert [call.params.get("n") for call in server.calls] == expected["n"]


class Told(BaseChatModel):
    """Gives the messages that the packages of Anthropic and Google make of their APIs' replies."""

    message: AIMessage

    @property
    def _llm_type(self) -> str:
        return "told"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.message)])


USAGE = {"input_tokens": 12, "output_tokens": 7, "total_tokens": 19}


@pytest.mark.parametrize(
    ("message", "finish"),
    [
        (
            AIMessage(
                [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "text", "text": "a"},
                ],
                response_metadata={"stop_reason": "max_tokens", "model_name": "claude"},
                usage_metadata={**USAGE, "input_token_details": {"cache_read": 4}},
            ),
            "length",
        ),
        (
            AIMessage("a", response_metadata={"stop_reason": "end_turn"}, usage_metadata=USAGE),
            "stop",
        ),
        (
            AIMessage(
                [{"type": "thinking", "thinking": "hm"}, "a"],
                response_metadata={"finish_reason": "MAX_TOKENS", "safety_ratings": []},
                usage_metadata=USAGE,
            ),
            "length",
        ),
        (AIMessage("a", response_metadata={"done_reason": "stop"}, usage_metadata=USAGE), "stop"),
    ],
    ids=["anthropic, cut", "anthropic", "google, cut", "ollama's own package"],
)
async def test_messages_of_other_packages(message: AIMessage, finish: str) -> None:
    found = await generate(Told(message=message), [HumanMessage("u")], 2, sampling())
    assert found.texts == ["a", "a"]
    assert found.finish_reasons == [finish] * 2
    assert (found.usage["prompt_tokens"], found.usage["completion_tokens"]) == (24, 14)
