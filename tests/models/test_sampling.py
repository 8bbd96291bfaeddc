import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_openai import ChatOpenAI
from pydantic import Field

from tests.openai_server import Behaviour, OpenAIServer, digest_words
from tpo_graph.context import Sampling
from tpo_graph.models.replies import Unusable
from tpo_graph.models.sampling import generate

Make = Callable[..., ChatOpenAI]
PROMPT = [SystemMessage("be brief"), HumanMessage("hello there")]
SENT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello there"}]


def sampling(**given: Any) -> Sampling:
    nothing = Sampling(temperature=None, top_p=None, max_tokens=None, seed=None)
    return {**nothing, **given}


async def test_n_samples_are_one_request_whose_usage_counts_once(
    server: OpenAIServer, chat: Make
) -> None:
    server.script.append(Behaviour(cached_tokens=3))
    settings = sampling(temperature=0.5, top_p=0.9, max_tokens=7, seed=11)
    found = await generate(chat(), PROMPT, 5, settings)
    assert found.texts == [digest_words(SENT, 11, index) for index in range(5)]
    (call,) = server.calls
    assert call.messages == SENT
    assert call.params == {
        "model": "m",
        "n": 5,
        "stream": False,
        "temperature": 0.5,
        "top_p": 0.9,
        "max_completion_tokens": 7,
        "seed": 11,
    }
    assert found.usage["seconds"] > 0
    assert {**found.usage, "seconds": 0} == {
        "requests": 1,
        "prompt_tokens": 4,
        "cached_tokens": 3,
        "completion_tokens": 40,
        "unusable": 0,
        "truncated": 0,
        "score_cache_hits": 0,
        "seconds": 0,
    }


async def test_none_leaves_a_parameter_to_the_model(server: OpenAIServer, chat: Make) -> None:
    await generate(chat(temperature=0.25), PROMPT, 1, sampling())
    assert server.calls[0].params == {"model": "m", "n": 1, "stream": False, "temperature": 0.25}


@pytest.mark.parametrize("returned", [1, 3])
async def test_fewer_than_asked_are_topped_up_at_once_with_new_seeds(
    server: OpenAIServer, chat: Make, returned: int
) -> None:
    server.rule = lambda call: Behaviour(choices=min(returned, call.params["n"]), delay=0.05)
    found = await generate(chat(), PROMPT, 5, sampling(seed=7))
    assert len(set(found.texts)) == 5
    assert [call.params["n"] for call in server.calls] == [5] + [1] * (5 - returned)
    assert len({call.params["seed"] for call in server.calls}) == len(server.calls)
    topped = server.calls[1:]
    assert max(call.started for call in topped) < min(call.ended or 0 for call in topped)
    assert found.usage["requests"] == len(server.calls)
    assert found.usage["prompt_tokens"] == 4 * len(server.calls)
    assert found.usage["unusable"] == 0


async def test_a_server_that_gives_too_many_is_cut_to_n(server: OpenAIServer, chat: Make) -> None:
    server.script.append(Behaviour(choices=4))
    assert len((await generate(chat(), PROMPT, 2, sampling())).texts) == 2


async def test_no_choices_at_all_are_asked_for_once_more(server: OpenAIServer, chat: Make) -> None:
    server.rule = lambda _: Behaviour(choices=0)
    found = await generate(chat(), PROMPT, 3, sampling())
    assert found.texts == []
    assert len(server.calls) == 2


@pytest.mark.parametrize("nothing", [None, "", " \n", "<think>and so on"])
async def test_unusable_replies_are_asked_for_once_more_in_one_request(
    server: OpenAIServer, chat: Make, nothing: str | None
) -> None:
    server.script.append(Behaviour(contents=["good", nothing, nothing, "also good"]))
    server.script.append(Behaviour(contents=["second", nothing]))
    found = await generate(chat(), PROMPT, 4, sampling(seed=1))
    assert found.texts == ["good", "also good", "second"]
    assert [call.params["n"] for call in server.calls] == [4, 2]
    assert server.calls[0].params["seed"] != server.calls[1].params["seed"]
    assert found.usage["unusable"] == 3
    assert found.usage["requests"] == 2


async def test_nothing_usable_twice_is_no_texts_and_no_error(
    server: OpenAIServer, chat: Make
) -> None:
    server.rule = lambda _: Behaviour(contents=[None])
    found = await generate(chat(), PROMPT, 2, sampling())
    assert found.texts == []
    assert found.usage["unusable"] == 4
    assert len(server.calls) == 2


async def test_with_a_tag_only_tagged_text_is_used(server: OpenAIServer, chat: Make) -> None:
    contents = ["pre <out>one</out> post", "untagged", "<think>x</think><out>{two} <SEP></out>"]
    server.script.append(Behaviour(contents=contents))
    server.script.append(Behaviour(contents=["<out>three"]))
    found = await generate(chat(), PROMPT, 3, sampling(), tag="out")
    assert found.texts == ["one", "{two} <SEP>", "three"]
    assert found.usage["unusable"] == 1
    assert found.unusable == [Unusable("untagged", "no tag")]
    assert (found.finish_reasons, found.salvaged) == (["stop"] * 3, 1)


async def test_replies_cut_by_the_token_limit_are_used_and_counted_unless_a_tag_was_to_close_them(
    server: OpenAIServer, chat: Make
) -> None:
    server.rule = lambda _: Behaviour(contents=["<out>half a sent"], finish_reason="length")
    found = await generate(chat(), PROMPT, 2, sampling())
    assert found.texts == ["<out>half a sent"] * 2
    assert found.finish_reasons == ["length"] * 2
    assert found.usage["truncated"] == 2
    found = await generate(chat(), PROMPT, 1, sampling(), tag="out")
    assert (found.texts, found.usage["truncated"], found.usage["unusable"]) == ([], 0, 2)
    assert found.unusable == [Unusable("<out>half a sent", "cut")] * 2
    server.rule = lambda _: Behaviour(contents=["<out>whole</out> and"], finish_reason="length")
    found = await generate(chat(), PROMPT, 1, sampling(), tag="out")
    assert (found.texts, found.finish_reasons) == (["whole"], ["stop"])


async def test_a_model_that_left_the_opening_mark_out_once_is_known_to(
    server: OpenAIServer, chat: Make
) -> None:
    server.script.append(Behaviour(contents=["thoughts</think>answer", "more thou"]))
    server.rule = lambda _: Behaviour(contents=["more thou"], finish_reason="length")
    server.script[0].finish_reason = "length"
    found = await generate(chat(), PROMPT, 2, sampling())
    assert found.texts == ["answer"]
    assert [each.why for each in found.unusable] == ["cut", "cut"]


async def test_a_refusal_is_a_reply(server: OpenAIServer, chat: Make) -> None:
    server.script.append(Behaviour(contents=[None], refusal="I can't help with that."))
    assert (await generate(chat(), PROMPT, 1, sampling())).texts == ["I can't help with that."]


async def test_a_model_set_to_stream_does_not(server: OpenAIServer, chat: Make) -> None:
    found = await generate(chat(streaming=True), PROMPT, 3, sampling())
    assert len(set(found.texts)) == 3
    assert server.calls[0].params["stream"] is False


async def test_langchains_cache_does_not_make_the_samples_one(
    server: OpenAIServer, chat: Make
) -> None:
    set_llm_cache(InMemoryCache())
    try:
        for _ in range(2):
            await generate(chat(), PROMPT, 2, sampling())
    finally:
        set_llm_cache(None)
    assert len(server.calls) == 2


class Plain(BaseChatModel):
    """A model that knows neither `n` nor `seed`."""

    script: Iterator[str | Exception]
    temperature: float = 1.0
    limit: int | None = Field(default=None, alias="max_output_tokens")
    seen: list[tuple[float, int | None]] = Field(default_factory=list)
    running: list[int] = Field(default_factory=lambda: [0, 0])

    @property
    def _llm_type(self) -> str:
        return "plain"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise NotImplementedError

    async def _agenerate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        assert not kwargs
        self.seen.append((self.temperature, self.limit))
        self.running[0] += 1
        self.running[1] = max(self.running)
        await asyncio.sleep(0.01)
        self.running[0] -= 1
        reply = next(self.script)
        if isinstance(reply, Exception):
            raise reply
        usage = {
            "input_tokens": 2,
            "output_tokens": 3,
            "total_tokens": 5,
            "input_token_details": {"cache_read": 1},
        }
        message = AIMessage(
            reply, usage_metadata=usage, response_metadata={"stop_reason": "max_tokens"}
        )
        return ChatResult(generations=[ChatGeneration(message=message)])


async def test_models_without_n_are_called_n_times_at_once() -> None:
    model = Plain(script=iter("abc"))
    found = await generate(
        model, PROMPT, 3, sampling(temperature=0.3, top_p=0.5, max_tokens=9, seed=1)
    )
    assert sorted(found.texts) == ["a", "b", "c"]
    assert model.running[1] == 3
    assert model.seen == [(0.3, 9)] * 3
    assert (model.temperature, model.limit) == (1.0, None)
    assert {**found.usage, "seconds": 0} == {
        "requests": 3,
        "prompt_tokens": 6,
        "cached_tokens": 3,
        "completion_tokens": 9,
        "unusable": 0,
        "truncated": 3,
        "score_cache_hits": 0,
        "seconds": 0,
    }


async def test_what_came_is_kept_when_some_calls_fail() -> None:
    found = await generate(
        Plain(script=iter(["a", OSError("x"), "b", OSError("y")])), PROMPT, 3, sampling()
    )
    assert sorted(found.texts) == ["a", "b"]
    found = await generate(Plain(script=iter(["a", OSError("x"), "b", "c"])), PROMPT, 3, sampling())
    assert sorted(found.texts) == ["a", "b", "c"]
