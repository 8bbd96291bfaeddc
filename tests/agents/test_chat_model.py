"""What `ChatTPO` promises beyond LangChain's standard suites."""

import json
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy
from langchain_core.callbacks import AsyncCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel, ConfigDict, Field, computed_field

from tests.agents.fakes import ToolCallingModel
from tpo_graph import ChatTPO
from tpo_graph.cache import MemoryCache
from tpo_graph.errors import ConfigurationError, RewardError
from tpo_graph.testing import ScriptedChatModel, prefer_longer


@tool
def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def chat(model: Any = None, **options: Any) -> ChatTPO:
    options = {"depth": 1, "width": 3, **options}
    return ChatTPO(model=model or ToolCallingModel(), reward_model=prefer_longer, **options)


class TestAnswer:
    async def test_it_is_the_best_response_of_a_run(self):
        cache = MemoryCache()
        answer = chat(tpo_cache=cache).invoke("Say hello.")
        about = answer.response_metadata["tpo"]
        candidates = await cache.candidates(about["run_id"])
        assert len(candidates) == 6
        assert answer.text == max((c["response"] for c in candidates), key=len)
        assert (about["stop_reason"], about["iteration"]) == ("depth", 1)

    async def test_usage_counts_each_inner_call_once(self):
        model = ScriptedChatModel(replies=["two words"])
        usage = (await chat(model, depth=0).ainvoke("Say hello.")).usage_metadata
        # one request of two words with three replies of two words
        assert usage == {"input_tokens": 2, "output_tokens": 6, "total_tokens": 8}

    def test_usage_that_nobody_reports_is_none(self):
        silent = FakeListChatModel(responses=["fine"])
        assert chat(silent, depth=0).invoke("Say hello.").usage_metadata is None

    async def test_options_of_one_call(self):
        model = ToolCallingModel()
        await chat(model).bind(criteria="Be brief.").ainvoke("Say hello.")
        assert "Be brief." in model.calls[1][0][-1].text
        await chat(model).ainvoke("Say hello.", depth=0, temperature=0.1, seed=3)
        assert len(model.calls) == 4 + 1
        assert model.calls[-1][1]["temperature"] == 0.1
        assert model.calls[-1][1]["seed"] is not None

    def test_the_answer_ends_before_a_stop_word(self):
        model = ScriptedChatModel(replies=["one two three"])
        assert chat(model, depth=0).invoke("Count.", stop=["two", "three"]).text == "one "
        assert chat(model, depth=0, stop=["three"]).invoke("Count.").text == "one two "
        # As with ChatOpenAI; its letters are no stop words.
        assert chat(model, depth=0).bind(stop="three").invoke("Count.").text == "one two "

    def test_it_can_be_called_from_inside_a_running_loop_and_in_batches(self):
        answers = chat().batch(["Say hello.", "Say goodbye."])
        assert [a.text.startswith("Answer!") for a in answers] == [True, True]

    def test_wrong_settings_are_refused_at_once(self):
        for wrong, why in (
            ({"depth": -1}, "depth=-1"),
            ({"settings": {"depht": 2}}, "did you mean 'depth'"),
            ({"depht": 2}, "did you mean 'depth'"),
        ):
            with pytest.raises(ConfigurationError, match=why):
                chat(**wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="reward_model is missing"):
            ChatTPO(model=ScriptedChatModel())  # pyright: ignore[reportCallIssue]
        for wrong, why in (
            ({"settings": {"interrupt_at": "select"}}, "interrupt_at"),
            ({"settings": {"policy": "fast"}}, "not a choice"),
        ):
            with pytest.raises(ConfigurationError, match=why):
                chat(**wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="depth=-1"):
            chat().invoke("Say hello.", depth=-1)

    @pytest.mark.parametrize("stop", [3, [3], {"a": 1}])
    def test_a_stop_word_that_is_no_text_is_refused_before_anything_is_asked(self, stop: Any):
        model = ToolCallingModel()
        with pytest.raises(ConfigurationError, match=r"stop=.* must be a text or a list of texts"):
            chat(model).invoke("Say hello.", stop=stop)
        assert model.calls == []

    def test_where_runs_are_kept_is_another_cache_than_langchains(self):
        with pytest.raises(ConfigurationError, match="give it as tpo_cache"):
            chat(cache=MemoryCache())

    def test_tokens_are_counted_as_the_inner_model_counts_them(self):
        model = ToolCallingModel(custom_get_token_ids=lambda text: [0] * len(text))
        made = chat(model)
        assert made.get_num_tokens("four") == 4
        asked: list[BaseMessage] = [HumanMessage("four")]
        assert made.get_num_tokens_from_messages(asked) == len("Human: four")
        own = chat(model, custom_get_token_ids=lambda text: [0])
        assert (own.get_num_tokens("four"), own.get_num_tokens_from_messages(asked)) == (1, 1)

    def test_failures_are_raised(self):
        def broken(query: str, response: str) -> float:
            raise ConnectionError("gone")

        with pytest.raises(RewardError, match="gone"):
            ChatTPO(model=ToolCallingModel(), reward_model=broken).invoke("Say hello.")


class TestTools:
    def test_a_failing_reward_of_structured_output_is_told_by_its_place(self):
        def broken(query: str, response: str) -> float:
            raise ConnectionError("gone")

        made = ChatTPO(model=ToolCallingModel(), reward_model=broken, depth=0, width=1)

        class Joke(BaseModel):
            setup: str

        asks = made.with_structured_output(Joke, method="function_calling")
        with pytest.raises(RewardError, match=r"broken \(test_chat_model.py:\d+\) failed"):
            asks.invoke("A 'knock knock' joke.")

    def test_a_model_that_knows_no_tools_is_named(self):
        with pytest.raises(NotImplementedError, match="'ScriptedChatModel' knows no tools"):
            chat(ScriptedChatModel()).bind_tools([weather])

    @pytest.mark.parametrize("way", ["sync", "async"])
    async def test_a_turn_that_calls_tools_passes_through(self, way: str):
        model = ToolCallingModel()
        bound = chat(model).bind_tools([weather])
        question = "How is the weather in 'Rome'?"
        turn = await bound.ainvoke(question) if way == "async" else bound.invoke(question)
        assert [call["args"] for call in turn.tool_calls] == [{"city": "Rome"}]
        assert "tpo" not in turn.response_metadata
        assert len(model.calls) == 1

    def test_the_final_turn_is_refined_from_the_inner_models_draft(self):
        model = ToolCallingModel()
        bound = chat(model).bind_tools([weather])
        call = {"name": "weather", "args": {"city": "Rome"}, "id": "1", "type": "tool_call"}
        turn = bound.invoke(
            [
                HumanMessage("How is it in Rome?"),
                AIMessage("", tool_calls=[call]),
                ToolMessage("sunny in Rome", tool_call_id="1", name="weather"),
            ]
        )
        assert turn.response_metadata["tpo"]["iteration"] == 1
        assert [parameters["n"] for _, parameters in model.calls] == [1, 2, 1, 1, 3]

    def test_in_an_agent(self):
        agent = create_agent(chat(), tools=[weather], checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "t"}}
        given: Any = {"messages": [("user", "How is the weather in 'Rome'?")]}
        chunks = list(agent.stream(given, config, stream_mode="messages"))
        texts = [message.text for message, _ in chunks if message.text]
        out = agent.get_state(config).values["messages"]
        assert [m.type for m in out] == ["human", "ai", "tool", "ai"]
        assert texts == ["Let me look.", "sunny in Rome", out[-1].text]
        assert out[-1].response_metadata["tpo"]["iteration"] == 1

    @pytest.mark.parametrize("tools", [[], [weather]])
    def test_in_every_stream_the_answer_has_one_id(self, tools: list[Any]):
        agent = create_agent(chat(), tools=tools, checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "t"}}
        given: Any = {"messages": [("user", "How is the weather in 'Rome'?")]}
        modes: Any = ["messages", "updates", "values"]
        streamed = list(agent.stream(given, config, stream_mode=modes, subgraphs=True))
        answer = agent.get_state(config).values["messages"][-1]
        shown = [chunk[0] for _, mode, chunk in streamed if mode == "messages"]
        assert [m.id for m in shown if m.text == answer.text] == [answer.id]
        found = [m for _, mode, chunk in streamed if mode != "messages" for m in said(chunk)]
        assert {m["id"] for m in found if m["content"] == answer.text} == {answer.id}
        assert {m["type"] for m in found} <= {"human", "ai", "tool"}

    @pytest.mark.parametrize("way", ["sync", "async"])
    async def test_structured_output_is_the_best_that_fits(self, way: str):
        class Verdict(BaseModel):
            """A verdict."""

            text: str

        model = ToolCallingModel(replies=["no JSON, but long", '{"text": "a better one"}'])
        structured = chat(model, depth=0).with_structured_output(Verdict)
        asked = "A verdict, please."
        found = await structured.ainvoke(asked) if way == "async" else structured.invoke(asked)
        assert found == Verdict(text="a better one")
        as_dict = chat(model, depth=0).with_structured_output(
            Verdict.model_json_schema(), include_raw=True
        )
        whole = as_dict.invoke(asked)
        assert whole["parsed"] == {"text": "a better one"}
        assert whole["raw"].response_metadata["tpo"]["iteration"] == 0

    def test_structured_output_that_nothing_beats_is_the_inner_models(self):
        class Verdict(BaseModel):
            """A verdict."""

            text: str

        structured = chat(ToolCallingModel(replies=["no JSON"])).with_structured_output(Verdict)
        assert structured.invoke("A verdict, please.") == Verdict(text="some text")
        with pytest.raises(ConfigurationError, match="not a schema"):
            chat().with_structured_output(5)  # type: ignore[arg-type]

    def test_a_draft_with_aliases_and_computed_fields_fits_its_own_schema(self):
        class Verdict(BaseModel):
            """A verdict."""

            model_config = ConfigDict(extra="forbid")
            text: str = Field(alias="theText")

            @computed_field
            @property
            def length(self) -> int:
                return len(self.text)

        structured = chat(ToolCallingModel(replies=["no JSON"]), depth=0).with_structured_output(
            Verdict, include_raw=True
        )
        whole = structured.invoke("A verdict, please.")
        assert whole["parsed"] == Verdict(theText="some theText")
        assert "tpo" in whole["raw"].response_metadata

    def test_an_agents_structured_output(self):
        class Verdict(BaseModel):
            """A verdict."""

            text: str

        out = create_agent(chat(), tools=[], response_format=Verdict).invoke(
            {"messages": [HumanMessage("A verdict.")]}
        )
        assert out["structured_response"] == Verdict(text="some text")

    def test_what_a_provider_is_asked_for_is_what_candidates_are_held_to(self):
        class Verdict(BaseModel):
            """A verdict."""

            text: str

        replies = ['{"text": "hi"}', "a long reply that is not JSON", '{"text": "hi, you"}']
        scored: list[str] = []

        def longer(query: str, response: str) -> float:
            scored.append(response)
            return float(len(response))

        best = ChatTPO(
            model=ToolCallingModel(replies=replies), reward_model=longer, depth=0, width=3
        )
        agent = create_agent(best, tools=[], response_format=ProviderStrategy(Verdict))
        out = agent.invoke({"messages": [HumanMessage("Tell me.")]})
        assert out["structured_response"] == Verdict(text="hi, you")
        assert out["messages"][-1].response_metadata["tpo"]["reward"] == len('{"text": "hi, you"}')
        assert [json.loads(text)["text"] for text in dict.fromkeys(scored)] == ["hi", "hi, you"]
        prose = ChatTPO(
            model=ToolCallingModel(replies=replies[1:2]), reward_model=longer, depth=0, width=3
        )
        asked = {"type": "json_schema", "json_schema": {"schema": Verdict.model_json_schema()}}
        assert prose.invoke("Tell me.", response_format=asked).text == replies[1]


def said(chunk: Any) -> list[dict[str, Any]]:
    """The messages in a part of the stream, of a state or of what nodes change in it."""
    if isinstance(chunk, list):
        return [each for part in chunk for each in said(part)]
    if isinstance(chunk, BaseMessage):
        return [chunk.model_dump()]
    if isinstance(chunk, dict):
        whole = {"type", "content", "id"} <= chunk.keys()
        return [chunk] if whole else [each for part in chunk.values() for each in said(part)]
    return []


class TestInsideAGraph:
    def test_it_leaves_no_checkpoints_and_can_be_called_twice_in_a_node(self):
        def node(state: MessagesState) -> Any:
            return {"messages": [chat().invoke("One?"), chat().invoke("Two?")]}

        saver = InMemorySaver()
        builder = StateGraph(MessagesState).add_node("tpo", node).add_edge(START, "tpo")
        config: Any = {"configurable": {"thread_id": "t"}}
        graph = builder.compile(checkpointer=saver)
        streamed = [m for m, _ in graph.stream({"messages": []}, config, stream_mode="messages")]
        stored = graph.get_state(config).values["messages"]
        assert [m.id for m in streamed] == [m.id for m in stored]
        assert len({m.response_metadata["tpo"]["run_id"] for m in stored}) == 2
        spaces = {c.config["configurable"]["checkpoint_ns"] for c in saver.list(config)}
        assert spaces == {""}


class Trace(AsyncCallbackHandler):
    """Names of runs with the names above them."""

    def __init__(self) -> None:
        self.names: dict[Any, str] = {}
        self.parents: dict[Any, Any] = {}
        self.models: list[str] = []
        self.tokens: list[str] = []

    async def on_chain_start(self, serialized: Any, inputs: Any, **kwargs: Any) -> None:
        self._started(kwargs["name"], kwargs)

    async def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
        self._started(kwargs["name"] or serialized["name"], kwargs)
        self.models.append("/".join(self._path(kwargs["run_id"])))

    async def on_llm_new_token(self, token: str, **kwargs: Any) -> None:
        self.tokens.append(token)

    def _started(self, name: str, kwargs: dict[str, Any]) -> None:
        self.names[kwargs["run_id"]] = name
        self.parents[kwargs["run_id"]] = kwargs["parent_run_id"]

    def _path(self, run_id: Any) -> list[str]:
        above = self.parents.get(run_id)
        return [*(self._path(above) if above else []), self.names[run_id]]


class TestCallbacks:
    @pytest.mark.parametrize("way", ["sync", "async"])
    async def test_inner_calls_are_traced_beneath_the_chat_models_own(self, way: str):
        trace = Trace()
        config: Any = {"callbacks": [trace]}
        if way == "async":
            await chat().ainvoke("Say hello.", config)
        else:
            chat().invoke("Say hello.", config)
        assert trace.models == [
            "ChatTPO",
            "ChatTPO/ChatTPO/sample/sample",
            "ChatTPO/ChatTPO/loss/loss",
            "ChatTPO/ChatTPO/gradient/gradient",
            "ChatTPO/ChatTPO/update/update",
        ]

    async def test_a_stream_is_one_chunk_and_no_draft(self):
        trace = Trace()
        config: Any = {"callbacks": [trace]}
        chunks = [chunk async for chunk in chat().astream("Say hello.", config)]
        assert len(chunks) == 1
        assert trace.tokens == [chunks[0].text]
        assert chunks[0].usage_metadata is not None

    async def test_progress_arrives_as_custom_events(self):
        events = [event async for event in chat().astream_events("Say hello.", version="v2")]
        told = [e["data"]["event"] for e in events if e["event"] == "on_custom_event"]
        assert [name for name in told if name != "new_best"] == [
            *["samples", "rewards", "loss", "gradient"],
            *["samples", "rewards", "stopped"],
        ]
        own = next(e for e in events if e["event"] == "on_chat_model_start")
        assert {e["run_id"] for e in events if e["event"] == "on_custom_event"} == {own["run_id"]}

    async def test_a_trace_says_what_answered_and_where_it_had_to_stop(self):
        model = chat(stop=["END"])
        events = [event async for event in model.astream_events("Say hello.", version="v2")]
        own = next(e for e in events if e["event"] == "on_chat_model_start")["metadata"]
        assert own["ls_model_name"] == model.model_name
        assert own["ls_stop"] == ["END"]

    def test_usage_callbacks_see_the_inner_model_by_its_name_and_the_sum_by_ours(self):
        usage = UsageMetadataCallbackHandler()
        model = ToolCallingModel()
        bound = chat(model).bind_tools([weather])
        answer = bound.invoke("Say hello.", {"callbacks": [usage]})
        assert usage.usage_metadata["tpo:ToolCallingModel"] == answer.usage_metadata
        assert usage.usage_metadata.keys() == {"tpo:ToolCallingModel", "scripted-1"}


@pytest.mark.parametrize(
    "other",
    [
        {"reward_model": lambda q, r: -float(len(r))},
        {"critic": ScriptedChatModel(temperature=0.2)},
        {"model": ScriptedChatModel(temperature=0.1)},
        {"prompts": "revision"},
        {"settings": {"criteria": "Be brief."}},
        {"temperature": 0.0},
        {"max_tokens": 7},
        {"depth": 1},
    ],
)
def test_langchains_cache_tells_apart_what_answers_differently(other: dict[str, Any]):
    given: dict[str, Any] = {"model": ScriptedChatModel(), "reward_model": prefer_longer}
    key = ChatTPO(**given)._get_llm_string()
    assert key == ChatTPO(**given)._get_llm_string()
    assert key != ChatTPO(**{**given, **other})._get_llm_string()


def test_an_argument_that_would_reach_one_request_only_is_refused():
    model = ScriptedChatModel()
    chat = ChatTPO(model=model, reward_model=prefer_longer)
    for arguments in ({"extra_body": {"top_k": 5}}, {"n": 2}, {"reasoning_effort": "low"}):
        with pytest.raises(ConfigurationError, match=next(iter(arguments))):
            chat.bind(**arguments).invoke("Hi")
    with pytest.raises(ConfigurationError, match="did you mean 'depth'"):
        chat.invoke("Hi", depht=3)
    assert model.calls == []
