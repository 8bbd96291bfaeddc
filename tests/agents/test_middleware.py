"""`TPOMiddleware` in agents made by `create_agent`."""

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel, Field, SecretStr

from tests.agents.fakes import ToolCallingModel
from tpo_graph.agents.middleware import TPOMiddleware
from tpo_graph.agents.structured import StructuredForm
from tpo_graph.cache import MemoryCache
from tpo_graph.testing import ScriptedChatModel, prefer_longer

QUESTION: Any = {"messages": [("user", "Say hello.")]}
THREAD: Any = {"configurable": {"thread_id": "t"}}
WEATHER: Any = {"messages": [("user", "How is the weather in Rome?")]}


def weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def agent_of(model: Any = None, *, tools: Any = (), middleware: Any = None, **options: Any):
    return create_agent(
        model or ToolCallingModel(),
        tools=list(tools),
        middleware=[middleware or TPOMiddleware(prefer_longer)],
        **options,
    )


def broken(query: str, response: str) -> float:
    raise ConnectionError("the reward model is gone")


async def run(agent: Any, way: str, *args: Any, **kwargs: Any) -> Any:
    return await agent.ainvoke(*args, **kwargs) if way == "async" else agent.invoke(*args, **kwargs)


both_ways = pytest.mark.parametrize("way", ["sync", "async"])


class TestAnswer:
    @both_ways
    async def test_the_final_answer_is_refined_and_the_draft_reused(self, way: str):
        model = ToolCallingModel()
        cache = MemoryCache()
        agent = agent_of(model, middleware=TPOMiddleware(prefer_longer, width=3, cache=cache))
        out = await run(agent, way, QUESTION)
        question, answer = out["messages"]
        about = answer.response_metadata["tpo"]
        candidates = await cache.candidates(about["run_id"])
        assert (question.text, answer.type) == ("Say hello.", "ai")
        assert candidates[0]["response"] == "Answer (0)"
        assert answer.text == max((c["response"] for c in candidates), key=len)
        assert about["iteration"] == 1
        first = max(c["reward"] for c in candidates if c["iteration"] == 0)
        assert (about["first_best"], about["gain"]) == (first, about["reward"] - first)
        assert about["gain"] > 0
        assert about["tokens"] > 0
        assert "prefer_longer" in about["reward_model"]
        # the draft, two more first samples, loss, gradient, three of an update
        assert [call["n"] for _, call in model.calls] == [1, 2, 1, 1, 3]
        assert [c["position"] for c in candidates] == [0, 1, 2] * 2

    def test_a_draft_that_nothing_beats_is_the_answer(self):
        cache = MemoryCache()

        def first(query: str, response: str) -> float:
            return float(response == "Answer (0)")

        agent = agent_of(middleware=TPOMiddleware(first, cache=cache))
        answer = agent.invoke(QUESTION)["messages"][-1]
        assert answer.text == "Answer (0)"
        assert answer.response_metadata["tpo"]["iteration"] == 0
        assert answer.response_metadata["model_name"] == "scripted-1"

    def test_only_a_draft_that_stays_keeps_how_it_ended(self):
        class Cut(ToolCallingModel):
            def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
                result = super()._generate(messages, *args, **kwargs)
                result.generations[0].message.response_metadata["finish_reason"] = "length"
                return result

        for best, ending in (
            (prefer_longer, None),
            (lambda q, r: float(r == "Answer (0)"), "length"),
        ):
            policy = ScriptedChatModel()
            middleware = TPOMiddleware(best, model=policy)
            answer = agent_of(Cut(), middleware=middleware).invoke(QUESTION)["messages"][-1]
            assert answer.response_metadata.get("finish_reason") == ending
            assert answer.response_metadata["model_name"] == "scripted-1"

    def test_tool_results_history_and_system_prompt_are_part_of_the_query(self):
        model = ToolCallingModel()
        agent = agent_of(model, tools=[weather], system_prompt="Be kind.")
        history = [HumanMessage("Hi"), AIMessage("Hello."), HumanMessage("The weather in Rome?")]
        out = agent.invoke({"messages": history})
        kinds = [type(m) for m in out["messages"][3:]]
        assert kinds == [AIMessage, ToolMessage, AIMessage]
        called, _, answer = out["messages"][3:]
        assert called.tool_calls
        assert "tpo" not in called.response_metadata
        assert answer.response_metadata["tpo"]["iteration"] == 1
        critic_prompt = next(m[-1].text for m, _ in model.calls if "_answer>" in m[-1].text)
        for text in ("Be kind.", "Hi", "Hello.", "The weather in Rome?", "sunny in some city"):
            assert text in critic_prompt

    def test_usage_is_the_drafts_and_the_runs(self):
        model = ToolCallingModel(replies=["word"])
        agent = agent_of(model, middleware=TPOMiddleware(prefer_longer, depth=0, width=3))
        answer = agent.invoke(QUESTION)["messages"][-1]
        # "Say hello." is two words; the two further samples are one request
        assert answer.usage_metadata == {
            "input_tokens": 2 + 2,
            "output_tokens": 1 + 2,
            "total_tokens": 7,
        }

    def test_another_policy_and_critic(self):
        model, policy, critic = ToolCallingModel(), ScriptedChatModel(), ScriptedChatModel()
        middleware = TPOMiddleware(prefer_longer, model=policy, critic=critic, depth=2, width=2)
        agent_of(model, middleware=middleware).invoke(QUESTION)
        assert [len(m.calls) for m in (model, policy, critic)] == [1, 3, 4]

    def test_answers_that_are_more_than_text_pass_through(self):
        class Cites(ToolCallingModel):
            def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
                result = super()._generate(messages, *args, **kwargs)
                link = {"type": "citation", "url": "https://example.org"}
                text = {"type": "text", "text": "Rome.", "annotations": [link]}
                result.generations[0].message.content = [text]
                return result

        answer = agent_of(Cites()).invoke(QUESTION)["messages"][-1]
        assert "tpo" not in answer.response_metadata

    def test_in_a_thread_each_answer_is_a_run_of_its_own(self):
        agent = agent_of(checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "t"}}
        agent.invoke(QUESTION, config)
        out = agent.invoke(QUESTION, config)
        answers = [m for m in out["messages"] if m.type == "ai"]
        assert len({m.response_metadata["tpo"]["run_id"] for m in answers}) == 2
        assert len({m.id for m in out["messages"]}) == 4


class Verdict(BaseModel):
    """A verdict."""

    text: str


class TestStructuredOutput:
    WRITTEN = (
        "much longer than the schema allows",
        '{"text": 5, "more": "and more"}',
        """```json
{"text": "a better one"}
```""",
    )
    """What the policy writes beside the draft: two break the schema."""

    @both_ways
    async def test_from_a_tool_the_best_that_fits_is_kept(self, way: str):
        seen: list[str] = []

        def longer(query: str, response: str) -> float:
            seen.append(response)
            return float(len(response))

        policy = ScriptedChatModel(replies=self.WRITTEN)
        middleware = TPOMiddleware(longer, model=policy, depth=0)
        agent = agent_of(middleware=middleware, response_format=ToolStrategy(Verdict))
        out = await run(agent, way, QUESTION)
        assert out["structured_response"] == Verdict(text="a better one")
        _, answer, confirmed = out["messages"]
        assert answer.tool_calls[0]["args"] == {"text": "a better one"}
        assert answer.response_metadata["tpo"]["reward"] == len('{"text": "a better one"}')
        assert "a better one" in confirmed.text
        assert confirmed.tool_call_id == answer.tool_calls[0]["id"]
        assert set(seen) == {'{"text": "some text"}', '{"text": "a better one"}'}
        assert "JSON schema" in policy.calls[0][0][0].text

    @both_ways
    @pytest.mark.parametrize("schema", [Verdict, Verdict.model_json_schema()])
    async def test_from_the_provider_too(self, way: str, schema: Any):
        model = ToolCallingModel(replies=['{"text": "fine"}', *self.WRITTEN])
        middleware = TPOMiddleware(prefer_longer, depth=0)
        agent = agent_of(model, middleware=middleware, response_format=ProviderStrategy(schema))
        out = await run(agent, way, QUESTION)
        found = out["structured_response"]
        assert (found if isinstance(found, dict) else found.model_dump()) == {
            "text": "a better one"
        }
        assert StructuredForm(schema).read(out["messages"][-1].text) == found

    def test_a_structured_draft_that_nothing_beats_stays(self):
        policy = ScriptedChatModel(replies=["no JSON"])
        agent = agent_of(
            middleware=TPOMiddleware(prefer_longer, model=policy, depth=1),
            response_format=ToolStrategy(Verdict),
        )
        out = agent.invoke(QUESTION)
        assert out["structured_response"] == Verdict(text="some text")
        assert out["messages"][1].response_metadata["tpo"]["iteration"] == 0

    def test_a_structured_draft_is_taken_as_the_model_wrote_it(self):
        class Login(BaseModel):
            """A login."""

            name: str = Field(validation_alias="userName")
            note: str = Field(exclude=True)
            password: SecretStr

        seen: list[str] = []

        def score(query: str, response: str) -> float:
            seen.append(response)
            return 1.0

        agent = agent_of(
            middleware=TPOMiddleware(
                score, model=ScriptedChatModel(replies=["no JSON"]), on_error="raise"
            ),
            response_format=ToolStrategy(Login),
        )
        out = agent.invoke(QUESTION)
        found = out["structured_response"]
        assert (found.name, found.note) == ("some userName", "some note")
        assert found.password.get_secret_value() == "some password"
        assert out["messages"][1].tool_calls[0]["args"] == {
            "userName": "some userName",
            "note": "some note",
            "password": "some password",
        }
        assert seen == ['{"name": "some userName", "password": "**********"}']

    def test_half_a_character_in_a_structured_draft_costs_the_agent_no_answer(self):
        class Cut(ToolCallingModel):
            def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
                result = super()._generate(messages, *args, **kwargs)
                for call in result.generations[0].message.tool_calls:
                    call["args"]["text"] += "\ud83d"
                return result

        agent = agent_of(
            Cut(),
            middleware=TPOMiddleware(prefer_longer, model=ScriptedChatModel(replies=["no JSON"])),
            response_format=ToolStrategy(Verdict),
        )
        assert agent.invoke(QUESTION)["structured_response"] == Verdict(text="some text\ufffd")

    def test_a_failure_keeps_the_structured_draft(self):
        agent = agent_of(middleware=TPOMiddleware(broken), response_format=ToolStrategy(Verdict))
        out = agent.invoke(QUESTION)
        assert out["structured_response"] == Verdict(text="some text")
        assert "error" in out["messages"][1].response_metadata["tpo"]


class TestStreaming:
    async def streamed(self, agent: Any, given: Any, way: str, **options: Any) -> list[Any]:
        if way == "async":
            return [c async for c in agent.astream(given, stream_mode="messages", **options)]
        return list(agent.stream(given, stream_mode="messages", **options))

    @both_ways
    async def test_clients_see_the_refined_text_only(self, way: str):
        agent = agent_of(ToolCallingModel(), tools=[weather])
        seen = [m for m, _ in await self.streamed(agent, WEATHER, way)]
        called, result, answer = seen
        assert called.tool_calls
        assert result.text == "sunny in some city"
        assert answer.response_metadata["tpo"]["iteration"] == 1

    @both_ways
    async def test_ids_of_streamed_and_stored_messages_agree(self, way: str):
        agent = agent_of(checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "t"}}
        ((streamed, _),) = await self.streamed(agent, QUESTION, way, config=config)
        stored = agent.get_state(config).values["messages"][-1]
        assert (streamed.id, streamed.text) == (stored.id, stored.text)

    @both_ways
    async def test_with_subgraphs_too_the_answer_is_one_message(self, way: str):
        agent = agent_of(checkpointer=InMemorySaver())
        seen = await self.streamed(agent, QUESTION, way, subgraphs=True, config=THREAD)
        ((namespace, (answer, _)),) = seen
        assert namespace == ()
        stored = agent.get_state(THREAD).values["messages"][-1]
        assert (answer.id, answer.text) == (stored.id, stored.text)

    @both_ways
    async def test_progress_arrives_on_the_agents_own_stream(self, way: str):
        agent: Any = agent_of()
        if way == "async":
            events = [event async for event in agent.astream(QUESTION, stream_mode="custom")]
        else:
            events = list(agent.stream(QUESTION, stream_mode="custom"))
        told = [event["event"] for event in events if event["event"] != "new_best"]
        one = ["samples", "rewards"]
        assert told == [*one, "loss", "gradient", *one, "stopped"]
        assert len({event["run_id"] for event in events}) == 1

    async def test_event_streams_tell_no_tokens_of_drafts(self):
        events = [event async for event in agent_of().astream_events(QUESTION, version="v2")]
        kinds = {event["event"] for event in events}
        assert "on_chat_model_end" in kinds
        assert "on_chat_model_stream" not in kinds

    @pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning")
    async def test_v3_streams_tell_the_refined_text_only(self):
        stream = await agent_of().astream_events(QUESTION, version="v3")
        texts = [await message.text async for message in stream.messages]
        assert len(texts) == 1
        assert texts[0].startswith("Answer!")

    def test_a_skipped_answer_streams_as_without_the_middleware(self):
        agent = agent_of(ToolCallingModel(replies=["one two three"]))
        given = {**QUESTION, "tpo": {"skip": True}}
        tokens = [m.text for m, _ in agent.stream(given, stream_mode="messages")]
        assert [token for token in tokens if token] == ["one ", "two ", "three"]


class TestRequests:
    @both_ways
    @pytest.mark.parametrize("place", ["state", "context"])
    async def test_a_request_can_set_depth_and_criteria(self, way: str, place: str):
        model = ToolCallingModel()
        wishes = {"depth": 2, "width": 2, "criteria": "Be brief."}
        given = {**QUESTION, "tpo": wishes} if place == "state" else QUESTION
        context = {"tpo": wishes} if place == "context" else None
        out = await run(agent_of(model), way, given, context=context)
        assert [call["n"] for _, call in model.calls] == [1, 1, 1, 1, 2, 1, 1, 2]
        assert "Be brief." in model.calls[2][0][-1].text
        assert "tpo" not in out

    @both_ways
    async def test_a_request_can_skip(self, way: str):
        model = ToolCallingModel()
        out = await run(agent_of(model), way, {**QUESTION, "tpo": {"skip": True}})
        assert out["messages"][-1].text == "Answer (0)"
        assert len(model.calls) == 1

    def test_wishes_last_for_one_request_with_all_its_tool_calls(self):
        model = ToolCallingModel()
        agent = agent_of(model, tools=[weather], checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "t"}}
        first = agent.invoke({**WEATHER, "tpo": {"skip": True}}, config)
        assert "tpo" not in first["messages"][-1].response_metadata
        second = agent.invoke(QUESTION, config)
        assert "tpo" in second["messages"][-1].response_metadata

    def test_a_request_that_failed_leaves_no_wishes_to_the_next(self):
        class Down(ToolCallingModel):
            down: bool = True

            def _generate(self, *args: Any, **kwargs: Any) -> Any:
                if self.down:
                    raise ConnectionError("down")
                return super()._generate(*args, **kwargs)

        model = Down()
        agent = agent_of(model, checkpointer=InMemorySaver())
        for thread, question in (("resumed", None), ("asked again", QUESTION)):
            model.down = True
            config: Any = {"configurable": {"thread_id": thread}}
            with pytest.raises(ConnectionError):
                agent.invoke({**QUESTION, "tpo": {"skip": True}}, config)
            model.down = False
            answer = agent.invoke(question, config)["messages"][-1]
            assert ("tpo" in answer.response_metadata) == (thread == "asked again")

    def test_what_a_request_can_say_stands_in_the_agents_schema(self):
        given = agent_of().get_input_jsonschema()["properties"]
        assert given.keys() == {"messages", "tpo"}

    def test_when_decides_by_request_and_draft(self):
        seen: list[str] = []

        def when(request: Any, draft: AIMessage) -> bool:
            seen.append(f"{request.messages[-1].text} {draft.text}")
            return False

        out = agent_of(middleware=TPOMiddleware(prefer_longer, when=when)).invoke(QUESTION)
        assert seen == ["Say hello. Answer (0)"]
        assert "tpo" not in out["messages"][-1].response_metadata

    @both_ways
    async def test_when_may_be_async(self, way: str):
        async def when(request: Any, draft: AIMessage) -> bool:
            return "hello" in request.messages[-1].text

        agent = agent_of(middleware=TPOMiddleware(prefer_longer, when=when))
        for question, refined in (("Say hello.", True), ("Say no.", False)):
            out = await run(agent, way, {"messages": [("user", question)]})
            assert ("tpo" in out["messages"][-1].response_metadata) == refined
