"""`generate` inside a node of a graph that its host streams and traces."""

from collections.abc import Callable
from typing import Any

from langchain_core.callbacks import AsyncCallbackHandler, get_usage_metadata_callback
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph
from typing_extensions import TypedDict

from tests.models.test_sampling import PROMPT, sampling
from tests.openai_server import OpenAIServer
from tpo_graph.models.sampling import generate

Make = Callable[..., ChatOpenAI]


class State(TypedDict):
    texts: list[str]


def graph_of(model: ChatOpenAI) -> Any:
    async def draw(_: State) -> State:
        found = await generate(
            model, PROMPT, 3, sampling(), stage="update", metadata={"tpo_run_id": "r"}
        )
        return {"texts": found.texts}

    return StateGraph(State).add_node("draw", draw).add_edge(START, "draw").compile()


class Trace(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.chains: dict[Any, str] = {}
        self.models: list[tuple[str, str, list[str], str]] = []
        self.replies = 0

    async def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self.chains[kwargs["run_id"]] = kwargs["name"]

    async def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        parent = self.chains[kwargs["parent_run_id"]]
        run_id = kwargs["metadata"]["tpo_run_id"]
        self.models.append((kwargs["name"], parent, kwargs["tags"], run_id))

    async def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        self.replies += len(response.generations[0])


async def test_drafts_stay_out_of_the_hosts_message_stream(
    server: OpenAIServer, chat: Make
) -> None:
    modes = ["messages", "values"]
    events = [event async for event in graph_of(chat()).astream({"texts": []}, stream_mode=modes)]
    assert [mode for mode, _ in events if mode == "messages"] == []
    assert len(set(events[-1][1]["texts"])) == 3
    assert [call.params["n"] for call in server.calls] == [3]


async def test_event_streams_see_three_whole_samples(server: OpenAIServer, chat: Make) -> None:
    events = [event async for event in graph_of(chat()).astream_events({"texts": []}, version="v2")]
    names = [event["event"] for event in events]
    assert "on_chat_model_end" in names
    assert "on_chat_model_stream" not in names
    assert len(set(events[-1]["data"]["output"]["texts"])) == 3
    assert [call.params["stream"] for call in server.calls] == [False]


async def test_traces_show_the_call_under_its_node(chat: Make) -> None:
    trace = Trace()
    await graph_of(chat()).ainvoke({"texts": []}, {"callbacks": [trace], "tags": ["mine"]})
    ((name, parent, tags, run_id),) = trace.models
    assert (name, parent, run_id) == ("update", "draw", "r")
    assert {"mine", "nostream"} <= set(tags)
    assert trace.replies == 3


async def test_without_a_graph_too_whoever_listens_hears(server: OpenAIServer, chat: Make) -> None:
    with get_usage_metadata_callback() as heard:
        found = await generate(chat(), PROMPT, 1, sampling())
    assert heard.usage_metadata["m"]["output_tokens"] == found.usage["completion_tokens"] == 8
    trace = Trace()
    trace.chains[None] = "nothing"  # type: ignore[index]
    await generate(chat(callbacks=[trace]), PROMPT, 3, sampling(), metadata={"tpo_run_id": "r"})
    assert trace.replies == 3


async def test_rate_limits_are_kept(server: OpenAIServer, chat: Make) -> None:
    limiter = InMemoryRateLimiter(requests_per_second=5, check_every_n_seconds=0.01)
    model = chat(rate_limiter=limiter)
    for _ in range(2):
        await generate(model, PROMPT, 1, sampling())
    first, second = server.calls
    assert second.started - first.started > 0.15
