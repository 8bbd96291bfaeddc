"""A step that fails for good: before the first selection an error, after it the best so far.

The run then ends with stop reason "failed" and the error beside it, wherever it is shown; resumed,
it repeats the step that failed and no call that was finished.
"""

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver

from tpo_graph import aextend, aoptimize, aresume, create_tpo_graph
from tpo_graph.agents.chat_model import ChatTPO
from tpo_graph.agents.middleware import TPOMiddleware
from tpo_graph.cache import MemoryCache
from tpo_graph.errors import ConfigurationError, PolicyError, RewardError
from tpo_graph.store import open_store
from tpo_graph.store.runs import get_run
from tpo_graph.store.trajectory import read_trajectory
from tpo_graph.testing import ScriptedChatModel, draft_then_improve

OPTIONS: dict[str, Any] = {"depth": 3, "width": 2, "seed": 7}
STEPS = ["loss", "gradient", "update", "reward_score"]


def step_of(texts: Sequence[str]) -> str:
    prompt = texts[-1]
    if "</improved_answer>" in prompt:
        return "update"
    if "fewest changes" in prompt:
        return "gradient"
    return "loss" if "<chosen_answer>" in prompt else "sample"


class World:
    """A policy and a reward model, either of which can be broken in one step of one iteration."""

    def __init__(self, broken: str = "", iteration: int = 2) -> None:
        self.broken, self.iteration = broken, iteration
        self.finished: list[Any] = []
        """Prompts that were answered and responses that were scored."""
        self.model = ScriptedChatModel(replies=self.reply)

    def reply(self, messages: Sequence[BaseMessage], _: int) -> str:
        asked = [message.text for message in messages]
        step = step_of(asked)
        begun = {str(p) for p in self.finished if isinstance(p, list) and step_of(p) == step}
        if step == self.broken and len(begun | {str(asked)}) >= self.iteration:
            raise ConnectionError("the provider is gone")
        self.finished.append(asked)
        return draft_then_improve(messages, len(asked[-1]) % 89)

    def reward(self, query: str, response: str) -> float:
        if self.broken == "reward_score" and response.count("!") >= self.iteration:
            raise OSError("the reward server is gone")
        self.finished.append(response)
        return float(len(response))


def len_of(query: str, response: str) -> float:
    return float(len(response))


async def whole() -> tuple[Any, World]:
    world = World()
    result = await aoptimize("Why?", model=world.model, reward_model=world.reward, **OPTIONS)
    return result, world


@pytest.mark.parametrize("broken", STEPS)
async def test_a_run_ends_with_the_best_so_far_and_is_resumed_at_the_step_that_failed(
    database_url: str, broken: str
) -> None:
    expected, uninterrupted = await whole()
    world = World(broken)
    # Scores that the cache knows would hide a response that is scored twice.
    async with open_store(database_url, reuse_scores=False) as store:
        failed = await aoptimize(
            "Why?",
            model=world.model,
            reward_model=world.reward,
            database=store,
            run_id="r",
            **OPTIONS,
        )
        run = await get_run(store, "r")
    assert (failed.stop_reason, failed.may_pass) == ("failed", True)
    assert failed.error is not None
    assert "is gone" in failed.error
    assert failed.error in repr(failed)
    assert failed.reward == max(c["reward"] for c in failed.candidates)
    assert {c["iteration"] for c in failed.candidates} == {0, 1}
    assert [row["iteration"] for row in failed.history] == [0, 1]
    assert (run["status"], run["stop_reason"]) == ("failed", "failed")
    assert run["error"] == failed.error

    world.broken = ""
    async with open_store(database_url, reuse_scores=False) as store:
        result = await aresume("r", database=store, model=world.model, reward_model=world.reward)
        run = await get_run(store, "r")
        used = (await read_trajectory(store, "r"))["usage"]
    assert (result.candidates, result.steps) == (expected.candidates, expected.steps)
    assert (result.history, result.stop_reason) == (expected.history, "depth")
    assert (result.error, run["error"], run["status"]) == (None, None, "finished")
    assert sorted(map(str, world.finished)) == sorted(map(str, uninterrupted.finished))
    assert {stage: usage["completion_tokens"] for stage, usage in used.items()} == {
        stage: usage["completion_tokens"] for stage, usage in result.usage.items()
    }


@pytest.mark.parametrize(
    ("broken", "error"), [("sample", PolicyError), ("reward_score", RewardError)]
)
async def test_a_failure_before_the_first_selection_raises(
    sqlite_url: str, broken: str, error: type[Exception]
) -> None:
    world = World(broken, iteration=0)
    with pytest.raises(error, match="is gone"):
        await aoptimize(
            "Why?",
            model=world.model,
            reward_model=world.reward,
            database=sqlite_url,
            run_id="r",
            **OPTIONS,
        )
    world.broken = ""
    result = await aresume("r", database=sqlite_url, model=world.model, reward_model=world.reward)
    assert result.stop_reason == "depth"
    assert [str(each) for each in world.finished].count("['Why?']") == 2


async def test_a_failed_run_can_be_taken_deeper(sqlite_url: str) -> None:
    expected, _ = await whole()
    world = World("gradient")
    options: dict[str, Any] = {**OPTIONS, "depth": 2}
    handles: dict[str, Any] = {"model": world.model, "reward_model": world.reward}
    await aoptimize("Why?", **handles, database=sqlite_url, run_id="r", **options)
    world.broken = ""
    result = await aextend("r", depth=3, database=sqlite_url, **handles)
    assert (result.candidates, result.steps) == (expected.candidates, expected.steps)


async def test_a_resume_that_cannot_begin_leaves_the_failed_run_as_it_is(sqlite_url: str) -> None:
    world = World("update")
    handles: dict[str, Any] = {"model": world.model, "reward_model": world.reward}
    await aoptimize("Why?", **handles, database=sqlite_url, run_id="r", **OPTIONS)
    async with open_store(sqlite_url) as store:
        before = await get_run(store, "r")
        with pytest.raises(ConfigurationError, match="cannot be compared"):
            await aresume("r", database=store, model=world.model, reward_model=lambda q, r: 1.0)
        assert await get_run(store, "r") == before


async def test_limits_may_be_raised_for_what_is_left(sqlite_url: str) -> None:
    seen: list[int | None] = []

    class Small(ScriptedChatModel):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> Any:
            if step_of([m.text for m in messages]) == "update":
                seen.append(self.max_tokens)
                if self.max_tokens == 10:
                    raise ValueError("max_tokens=10 is too few")
            return super()._generate(messages, *args, **kwargs)

    handles: dict[str, Any] = {
        "model": Small(replies=lambda m, _: draft_then_improve(m, len(m[-1].text) % 89)),
        "reward_model": World().reward,
    }
    options: dict[str, Any] = {**OPTIONS, "max_tokens": 10}
    failed = await aoptimize("Why?", **handles, database=sqlite_url, run_id="r", **options)
    assert failed.stop_reason == "failed"
    with pytest.raises(ConfigurationError, match=r"'width'; there are .*max_tokens"):
        await aresume("r", database=sqlite_url, **handles, width=3)
    with pytest.raises(ConfigurationError, match="max_tokens=0 is not valid"):
        await aresume("r", database=sqlite_url, **handles, max_tokens=0)
    result = await aresume("r", database=sqlite_url, **handles, max_tokens=20)
    assert (result.stop_reason, set(seen)) == ("depth", {10, 20})
    with pytest.raises(ConfigurationError, match=r"stopped by 'depth'.*max_tokens=30"):
        await aresume("r", database=sqlite_url, **handles, max_tokens=30)


async def test_a_budget_that_ended_a_run_may_be_raised(sqlite_url: str) -> None:
    expected, uninterrupted = await whole()
    world = World()
    handles: dict[str, Any] = {"model": world.model, "reward_model": world.reward}
    budget: dict[str, Any] = {**OPTIONS, "max_total_tokens": expected.history[0]["tokens"] * 3}
    short = await aoptimize("Why?", **handles, database=sqlite_url, run_id="r", **budget)
    assert short.stop_reason == "max_total_tokens"
    assert await aresume("r", database=sqlite_url, **handles) == short
    result = await aresume("r", database=sqlite_url, **handles, max_total_tokens=10**6)
    assert (result.candidates, result.stop_reason) == (expected.candidates, "depth")
    assert len(world.finished) == len(uninterrupted.finished)


@pytest.mark.parametrize("silent", ["loss", "gradient", "update", "reward_score"])
async def test_an_update_that_gave_nothing_is_drawn_anew_and_every_token_counts(
    database_url: str, silent: str
) -> None:
    unscorable = {"on": silent == "reward_score"}
    useless = {"on": silent != "reward_score"}

    def reply(messages: Sequence[BaseMessage], _: int) -> str:
        if useless["on"] and step_of([m.text for m in messages]) == silent:
            return "<improved_answer>" if silent == "update" else ""
        return draft_then_improve(messages, len(messages[-1].text) % 89)

    class Length:
        name = "length"

        async def score(self, conversation: Any, responses: Sequence[str]) -> list[float]:
            no = [unscorable["on"] and "!" in response for response in responses]
            return [
                math.nan if each else len(text) for each, text in zip(no, responses, strict=True)
            ]

    handles: dict[str, Any] = {"model": ScriptedChatModel(replies=reply), "reward_model": Length()}
    async with open_store(database_url) as store:
        first = await aoptimize("Why?", **handles, database=store, run_id="r", **OPTIONS)
        assert first.stop_reason == "no_usable_update"
        before = (await read_trajectory(store, "r"))["unusable"]
        assert before
        unscorable["on"] = useless["on"] = False
        result = await aresume("r", database=store, **handles, seed=8)
        assert result.stop_reason == "depth"
        assert {c["iteration"] for c in result.candidates} == {0, 1, 2, 3}
        stored = await read_trajectory(store, "r")
        assert stored["run"]["settings"]["seed"] == 8
        for stage, usage in result.usage.items():
            for count in ("requests", "prompt_tokens", "completion_tokens", "unusable"):
                assert stored["usage"][stage][count] == usage[count], (stage, count)  # type: ignore[literal-required]
        texts = [reply["text"] for reply in stored["unusable"]]
        assert texts == [reply["text"] for reply in before]
        assert {reply["iteration"] for reply in stored["unusable"]} == {-1}


async def test_a_graphs_answer_says_that_the_run_failed_and_its_thread_runs_again() -> None:
    world = World("loss", iteration=1)
    graph = create_tpo_graph(world.model, world.reward, checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "t"}}
    question: Any = {"messages": [("user", "Why?")]}
    stream = graph.astream(question, thread, context=OPTIONS, stream_mode="custom")  # type: ignore[arg-type]
    events: list[Any] = [event async for event in stream]
    state = (await graph.aget_state(thread)).values
    about = state["messages"][-1].response_metadata["tpo"]
    assert (about["stop_reason"], state["stop_reason"]) == ("failed", "failed")
    assert state["failure"]["step"] == "loss"
    assert about["error"] == state["failure"]["error"] == events[-1]["error"]
    assert events[-1]["event"] == "stopped"
    world.broken = ""
    state = await graph.ainvoke(question, thread, context=OPTIONS)  # type: ignore[arg-type]
    assert (state["stop_reason"], state["failure"]) == ("depth", None)
    assert "error" not in state["messages"][-1].response_metadata["tpo"]


async def test_a_programming_error_ends_nothing_quietly() -> None:
    class Broken(MemoryCache):
        async def record(self, run_id: str, iteration: int, stage: str, **rest: Any) -> None:
            if stage == "loss":
                raise ZeroDivisionError
            await super().record(run_id, iteration, stage, **rest)

    world = World()
    graph = create_tpo_graph(world.model, world.reward, cache=Broken())
    with pytest.raises(ZeroDivisionError):
        await graph.ainvoke({"messages": [("user", "Why?")]}, context=OPTIONS)  # type: ignore[arg-type]


def test_agents_get_the_best_so_far_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    world = World("update", iteration=1)
    refining = TPOMiddleware(world.reward, model=world.model, width=3)
    agent: Any = create_agent(ScriptedChatModel(replies=["Hm"]), middleware=[refining])
    chat = ChatTPO(model=world.model, reward_model=world.reward, width=2)
    for asked in (
        lambda: agent.invoke({"messages": ["Hi"]})["messages"][-1],
        lambda: chat.invoke("Hi"),
    ):
        caplog.clear()
        answer = asked()
        about = answer.response_metadata["tpo"]
        assert (answer.text[:6], about["stop_reason"], about["iteration"]) == (
            "Answer",
            "failed",
            0,
        )
        assert "the provider is gone" in about["error"]
        assert [about["error"] in record.getMessage() for record in caplog.records] == [True]
    strict = TPOMiddleware(world.reward, model=world.model, width=3, on_error="raise")
    agent = create_agent(ScriptedChatModel(replies=["Hm"]), middleware=[strict])
    with pytest.raises(PolicyError, match="is gone"):
        agent.invoke({"messages": ["Hi"]})


@pytest.mark.parametrize("broken", ["sample", "loss", "gradient", "update"])
async def test_what_a_step_consumed_before_it_failed_is_on_record(
    database_url: str, broken: str
) -> None:
    """The step's first replies are paid for and useless; asking again fails for good."""
    state = {"asked": 0, "broken": True}
    given: list[str] = []

    def reply(messages: Sequence[BaseMessage], _: int) -> str:
        text = draft_then_improve(messages, len(messages[-1].text) % 89)
        if step_of([m.text for m in messages]) == broken and state["broken"]:
            state["asked"] += 1
            if state["asked"] > 2 or (state["asked"] > 1 and broken in ("loss", "gradient")):
                raise ConnectionError("the provider is gone")
            text = "<think>so much for nothing"
        given.append(text)
        return text

    handles: dict[str, Any] = {"model": ScriptedChatModel(replies=reply), "reward_model": len_of}
    options: dict[str, Any] = {**OPTIONS, "depth": 1}
    async with open_store(database_url) as store:
        begun = aoptimize("Why?", **handles, database=store, run_id="r", **options)
        if broken == "sample":
            with pytest.raises(PolicyError, match="is gone"):
                await begun
        else:
            failed = await begun
            assert failed.stop_reason == "failed"
            assert failed.usage[broken]["completion_tokens"] > 0
        state["broken"] = False
        result = await aresume("r", database=store, **handles)
        used = (await read_trajectory(store, "r"))["usage"]
    assert result.stop_reason == "depth"
    said = sum(len(text.split()) for text in given)
    assert sum(usage["completion_tokens"] for usage in used.values()) == said


async def test_what_a_stopped_step_had_finished_is_on_record(sqlite_url: str) -> None:
    """One of three requests side by side has ended when the run is cancelled."""
    ended = asyncio.Event()

    class OneByOne(BaseChatModel):
        @property
        def _llm_type(self) -> str:
            return "one-by-one"

        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

        async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
            if ended.is_set():
                await asyncio.sleep(60)
            ended.set()
            counts = {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12}
            message = AIMessage("Because.", usage_metadata=counts)  # type: ignore[arg-type]
            return ChatResult(generations=[ChatGeneration(message=message)])

    async with open_store(sqlite_url) as store:
        run = asyncio.ensure_future(
            aoptimize(
                "Why?", model=OneByOne(), reward_model=len_of, width=3, run_id="r", database=store
            )
        )
        await asyncio.wait_for(ended.wait(), 20)
        await asyncio.sleep(0.05)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        stored = await read_trajectory(store, "r")
    assert stored["run"]["status"] == "interrupted"
    spent = stored["usage"]["sample"]
    assert (spent["requests"], spent["prompt_tokens"], spent["completion_tokens"]) == (1, 5, 7)
