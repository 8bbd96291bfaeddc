"""`TPOMiddleware` when something fails, or is resumed."""

import logging
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tests.agents.fakes import ToolCallingModel
from tests.agents.test_middleware import QUESTION, THREAD, agent_of, both_ways, broken, run
from tpo_graph.agents.middleware import TPOMiddleware
from tpo_graph.errors import ConfigurationError, PolicyError, RewardError
from tpo_graph.testing import ScriptedChatModel, draft_then_improve, prefer_longer


class TestResuming:
    @both_ways
    async def test_a_failure_resumes_inside_and_repeats_the_draft_only(self, way: str):
        seen = {"calls": 0}

        def fails_once(messages: Any, index: int) -> str:
            seen["calls"] += 1
            if seen["calls"] == 2:
                raise ConnectionError("lost")
            return draft_then_improve(messages, index)

        model, critic = ToolCallingModel(), ScriptedChatModel(replies=fails_once)
        middleware = TPOMiddleware(prefer_longer, critic=critic, width=2, on_error="raise")
        agent = agent_of(model, middleware=middleware, checkpointer=InMemorySaver())
        with pytest.raises(PolicyError, match="lost"):
            await run(agent, way, QUESTION, THREAD)
        out = await run(agent, way, None, THREAD)
        assert out["messages"][-1].response_metadata["tpo"]["iteration"] == 1
        assert [call["n"] for _, call in model.calls] == [
            1,
            1,
            1,
            2,
        ]  # draft, sample, draft, update
        assert len(critic.calls) == 3  # loss, failed gradient, gradient

    @both_ways
    async def test_a_person_may_decide_inside_an_agent(self, way: str):
        middleware = TPOMiddleware(prefer_longer, width=2, interrupt_at="gradient")
        model = ToolCallingModel()
        agent = agent_of(model, middleware=middleware, checkpointer=InMemorySaver())
        waiting = await run(agent, way, QUESTION, THREAD)
        (question,) = waiting["__interrupt__"]
        assert question.value["gradient"]
        answer = Command(resume={"action": "continue", "gradient": "Shout louder."})
        out = await run(agent, way, answer, THREAD)
        assert "Shout louder." in model.calls[-1][0][-1].text
        assert out["messages"][-1].response_metadata["tpo"]["iteration"] == 1


class TestFailures:
    @both_ways
    async def test_a_failing_reward_model_leaves_the_draft(
        self, way: str, caplog: pytest.LogCaptureFixture
    ):
        out = await run(agent_of(middleware=TPOMiddleware(broken)), way, QUESTION)
        answer = out["messages"][-1]
        assert answer.text == "Answer (0)"
        assert "the reward model is gone" in answer.response_metadata["tpo"]["error"]
        assert answer.response_metadata["tpo"]["error"].startswith("RewardError: ")
        (record,) = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert record.name == "tpo_graph"
        assert "the reward model is gone" in record.getMessage()

    @both_ways
    async def test_it_can_be_raised_instead(self, way: str):
        with pytest.raises(RewardError, match="gone"):
            await run(agent_of(middleware=TPOMiddleware(broken, on_error="raise")), way, QUESTION)

    def test_a_failing_critic_leaves_the_draft(self):
        def fail(messages: Any, index: int) -> str:
            raise ConnectionError("no critic today")

        middleware = TPOMiddleware(prefer_longer, critic=ScriptedChatModel(replies=fail))
        answer = agent_of(middleware=middleware).invoke(QUESTION)["messages"][-1]
        assert answer.text == "Answer (0)"
        assert answer.response_metadata["tpo"]["error"].startswith(PolicyError.__name__)

    def test_a_kept_draft_is_streamed_once(self):
        agent = agent_of(middleware=TPOMiddleware(broken))
        ((message, _),) = agent.stream(QUESTION, stream_mode="messages")
        assert message.text == "Answer (0)"

    @pytest.mark.parametrize("wishes", [{"depth": -1}, {"policy": "openai:gpt-5"}])
    def test_an_impossible_wish_is_a_failure_like_others(self, wishes: Any):
        answer = agent_of().invoke({**QUESTION, "tpo": wishes})["messages"][-1]
        assert answer.text == "Answer (0)"
        assert next(iter(wishes)) in answer.response_metadata["tpo"]["error"]

    @both_ways
    async def test_a_wish_that_is_no_mapping_costs_the_agent_no_answer(self, way: str):
        given: Any = {**QUESTION, "tpo": "skip"}
        answer = (await run(agent_of(), way, given))["messages"][-1]
        assert answer.text == "Answer (0)"
        assert "'skip'" in answer.response_metadata["tpo"]["error"]
        strict = agent_of(middleware=TPOMiddleware(prefer_longer, on_error="raise"))
        with pytest.raises(ConfigurationError, match="'skip'"):
            await run(strict, way, given)

    def test_a_wrong_setting_is_refused_when_the_agent_is_made(self):
        with pytest.raises(ConfigurationError, match="depht"):
            TPOMiddleware(prefer_longer, depht=1)
        with pytest.raises(ConfigurationError, match="on_error='ignore'"):
            TPOMiddleware(prefer_longer, on_error="ignore")  # pyright: ignore
        with pytest.raises(ConfigurationError, match="must take"):
            TPOMiddleware(lambda response: 1.0)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="when=5"):
            TPOMiddleware(prefer_longer, when=5)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=r"takes \(draft\), .* \(request, draft\)"):
            TPOMiddleware(prefer_longer, when=lambda draft: True)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="model="):
            TPOMiddleware(prefer_longer, policy="fast")

    @both_ways
    async def test_a_person_who_could_never_answer_is_no_silent_failure(self, way: str):
        model = ToolCallingModel()
        agent = agent_of(model, middleware=TPOMiddleware(prefer_longer, interrupt_at="select"))
        with pytest.raises(ConfigurationError, match="checkpointer"):
            await run(agent, way, QUESTION)
        with pytest.raises(ConfigurationError, match="the outermost graph or agent a checkpointer"):
            await run(agent, way, QUESTION, {"configurable": {"thread_id": "t"}})
        assert model.calls == []
