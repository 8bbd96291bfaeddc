"""What the graph promises (README), through its public interface, on scripted models."""

import asyncio
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from tpo_graph import TPOContext, create_tpo_graph
from tpo_graph.cache import MemoryCache
from tpo_graph.errors import ConfigurationError, PolicyError, RewardError
from tpo_graph.rewards import as_reward_model
from tpo_graph.testing import ScriptedChatModel, prefer_longer
from tpo_graph.usage import total_tokens

QUERY = {"messages": [("user", "Say hello.")]}


def graph_of(model: ScriptedChatModel | None = None, reward: Any = prefer_longer, **options: Any):
    return create_tpo_graph(model or ScriptedChatModel(), reward, **options)


def whole(messages: Any) -> str:
    """Everything that one call was sent."""
    return "\n".join(message.text for message in messages)


def rewards_by_text(table: dict[str, float]) -> Callable[[str, str], float]:
    def reward(query: str, response: str) -> float:
        return table[response]

    return reward


class TestWiring:
    def test_mermaid_is_the_promised_topology_and_stands_in_the_readme(self, readme: str):
        mermaid = graph_of().get_graph().draw_mermaid(with_styles=False)
        assert mermaid in readme
        edges = {line.strip().rstrip(";") for line in mermaid.splitlines() if "-" in line}
        assert edges == {
            "__start__ --> sample",
            "sample --> reward_score",
            "reward_score --> select",
            "select -. &nbsp;stop&nbsp; .-> __end__",
            "select -. &nbsp;deeper&nbsp; .-> loss",
            "loss --> gradient",
            "gradient --> update",
            "update --> reward_score",
        }

    @pytest.mark.parametrize("depth", [0, 1, 3])
    def test_calls_and_samples_follow_the_papers_count(self, depth: int):
        model = ScriptedChatModel()
        result = graph_of(model).invoke(QUERY, context={"depth": depth, "width": 4})
        assert len(model.calls) == 1 + 3 * depth
        assert sum(kwargs["n"] for _, kwargs in model.calls) == 4 * (1 + depth) + 2 * depth
        assert [row["n"] for row in result["history"]] == [4] * (1 + depth)
        assert result["stop_reason"] == "depth"


class TestAnswer:
    def test_one_message_is_appended_with_its_provenance(self):
        out = graph_of().invoke(QUERY, context={"depth": 2, "width": 3})
        question, answer = out["messages"]
        assert isinstance(question, HumanMessage)
        assert isinstance(answer, AIMessage)
        assert answer.text == out["chosen"]["response"]
        first = out["history"][0]["max"]
        about = answer.response_metadata["tpo"]
        assert about.pop("seconds") > 0
        assert about == {
            "run_id": out["run_id"],
            "reward": out["chosen"]["reward"],
            "first_best": first,
            "gain": out["chosen"]["reward"] - first,
            "iteration": out["chosen"]["iteration"],
            "stop_reason": "depth",
            "reward_model": as_reward_model(prefer_longer).name,
            "tokens": total_tokens(out["usage"]),
        }

    def test_the_policy_sees_the_whole_conversation_and_the_critic_reads_it(self):
        model = ScriptedChatModel()
        conversation = [
            SystemMessage("Be terse."),
            HumanMessage("Hi"),
            AIMessage("Hello."),
            HumanMessage("And now?"),
        ]
        graph_of(model).invoke({"messages": conversation}, context={"depth": 1})
        assert [m.text for m in model.calls[0][0]] == ["Be terse.", "Hi", "Hello.", "And now?"]
        critic_prompt = model.calls[1][0][-1].text
        for text in ("Be terse.", "Hi", "Hello.", "And now?"):
            assert text in critic_prompt

    def test_the_reward_model_sees_conversation_and_response_only(self):
        seen: list[tuple[list[Any], str]] = []

        class Recorder:
            name = "recorder"

            async def score(self, conversation: Any, responses: Any) -> list[float]:
                seen.extend((list(conversation), response) for response in responses)
                return [float(len(response)) for response in responses]

        out = graph_of(reward=Recorder()).invoke(QUERY, context={"depth": 2})
        assert all(turns == [{"role": "user", "content": "Say hello."}] for turns, _ in seen)
        assert all(out["loss"] not in r and out["gradient"] not in r for _, r in seen)

    @given(
        rewards=st.lists(
            st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=1, max_size=4
        )
    )
    @settings(max_examples=40)
    def test_argmax_and_argmin_over_all_iterations_ties_to_the_earliest(
        self, rewards: list[list[int]]
    ):
        table = {f"i{i}p{p}": float(r) for i, row in enumerate(rewards) for p, r in enumerate(row)}
        texts = iter(table)

        def play(messages: Any, index: int) -> str:
            prompt = messages[-1].text
            if "</improved_answer>" in prompt:
                return f"<improved_answer>{next(texts)}</improved_answer>"
            return "critique" if "<chosen_answer>" in whole(messages) else next(texts)

        graph = graph_of(ScriptedChatModel(replies=play), rewards_by_text(table))
        out = graph.invoke(QUERY, context={"width": 3, "depth": len(rewards) - 1})
        assert out["chosen"]["response"] == max(table, key=lambda text: table[text])
        assert out["rejected"]["response"] == min(table, key=lambda text: table[text])
        assert out["chosen"]["reward"] >= max(rewards[0])
        assert out["messages"][-1].text == out["chosen"]["response"]

    def test_width_one_works(self):
        out = graph_of().invoke(QUERY, context={"width": 1, "depth": 3})
        assert [row["n"] for row in out["history"]] == [1, 1, 1, 1]
        assert out["chosen"]["reward"] > out["rejected"]["reward"]

    @given(text=st.text(min_size=1).filter(str.strip))
    @example("{chosen} {} {0} {{query}} %s $x")
    @example("<SEP> </improved_answer> <improved_answer>")
    @example("<|begin_of_text|><s> [INST]")
    @example("🦜 שלום ‮ \u0000 end")
    @example("x" * 100_000)
    @settings(max_examples=40)
    def test_any_query_passes_through_untouched(self, text: str):
        model = ScriptedChatModel()
        out = graph_of(model).invoke({"messages": [("user", text)]}, context={"depth": 1})
        assert (out["messages"][0].text, out["stop_reason"]) == (text, "depth")
        assert all(text in whole(messages) for messages, _ in model.calls)


class TestRewards:
    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_a_reward_that_is_not_finite_is_an_error_never_a_winner(self, bad: float):
        def reward(query: str, response: str) -> float:
            return bad

        with pytest.raises(RewardError, match=repr(bad)):
            graph_of(reward=reward).invoke(QUERY)

    def test_equal_responses_are_scored_once(self):
        scored: list[str] = []

        def reward(query: str, response: str) -> float:
            scored.append(response)
            return 1.0

        graph = graph_of(ScriptedChatModel(replies=["same"]), reward)
        out = graph.invoke(QUERY, context={"width": 5, "depth": 0})
        assert scored == ["same"]
        assert out["rewards"] == [1.0] * 5
        assert out["usage"]["reward_score"]["score_cache_hits"] == 4


class TestUnusableReplies:
    def test_an_update_without_tags_is_asked_for_once_more_and_ends_the_run_with_its_best(self):
        model = ScriptedChatModel(replies=["no tags here"])
        out = graph_of(model).invoke(QUERY, context={"depth": 3, "width": 2})
        assert out["stop_reason"] == "no_usable_update"
        assert out["usage"]["update"]["unusable"] == 4
        assert out["usage"]["update"]["requests"] == 2
        assert out["messages"][-1].text == "no tags here"
        assert out["history"][-1]["n"] == 0

    def test_a_critic_that_says_nothing_ends_the_run_with_its_best(self):
        critic = ScriptedChatModel(replies=[""])
        out = graph_of(critic=critic).invoke(QUERY, context={"depth": 3})
        assert out["stop_reason"] == "no_usable_update"
        assert out["usage"]["loss"]["unusable"] == 2
        assert "gradient" not in out["usage"]
        assert out["messages"][-1].text.startswith("Answer")

    def test_a_policy_that_says_nothing_is_an_error(self):
        with pytest.raises(PolicyError, match="empty"):
            graph_of(ScriptedChatModel(replies=[" "])).invoke(QUERY)

    @pytest.mark.parametrize("messages", [[], [("ai", "hello")], [("user", "  ")]])
    def test_nothing_to_answer_is_an_error(self, messages: list[Any]):
        model = ScriptedChatModel()
        with pytest.raises(ConfigurationError, match=r"query|user message"):
            graph_of(model).invoke({"messages": messages})
        assert model.calls == []


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"cache": "sqlite:///tpo.db"}, r"not a cache: 'sqlite:///tpo.db'. Give the `cache` of"),
        ({"database": "sqlite:///tpo.db"}, r"no setting 'database'; .* cache=store.cache"),
        ({"prompts": 3}, r"not a prompt set: 3"),
        ({"policies": ["fast"]}, r"policies=\['fast'\]: give a mapping"),
        ({"strategies": [3]}, r"strategies=\[3\]: each needs a name"),
    ],
)
def test_what_no_run_could_use_is_refused_when_the_graph_is_made(wrong: Any, why: str):
    with pytest.raises(ConfigurationError, match=why):
        create_tpo_graph(ScriptedChatModel(), prefer_longer, **wrong)


class TestContext:
    @pytest.mark.parametrize("context", ["depth=1", 3, [("depth", 1)]])
    def test_one_that_can_hold_no_settings_is_refused(self, context: Any):
        with pytest.raises(ConfigurationError, match=r"context=.* give a mapping"):
            graph_of().invoke(QUERY, context=context)

    def test_defaults_when_none_is_given(self):
        out = graph_of().invoke(QUERY)
        assert len(out["history"]) == 1 + TPOContext().depth

    def test_sampling_parameters_reach_the_model_and_seeds_differ_per_call(self):
        model = ScriptedChatModel()
        context = TPOContext(depth=2, seed=7, temperature=0.3, critic_max_tokens=99, top_p=None)
        graph_of(model).invoke(QUERY, context=context)
        calls = [kwargs for _, kwargs in model.calls]
        assert calls[0]["temperature"] == 0.3
        assert all(calls[i]["top_p"] is None for i in (0, 3, 6))
        assert calls[1]["max_tokens"] == 99
        assert len({kwargs["seed"] for kwargs in calls}) == 7

    def test_criteria_reach_the_critic(self):
        model = ScriptedChatModel()
        context = {"depth": 1, "criteria": "Prefer {braces} & brevity"}
        graph_of(model).invoke(QUERY, context=context)
        prompts = [whole(messages) for messages, _ in model.calls]
        assert ["Prefer {braces} & brevity" in prompt for prompt in prompts] == [
            False,
            True,
            True,
            True,
        ]

    def test_a_critic_of_its_own(self):
        policy, critic = ScriptedChatModel(), ScriptedChatModel()
        graph_of(policy, critic=critic).invoke(QUERY, context={"depth": 2})
        assert (len(policy.calls), len(critic.calls)) == (3, 4)

    def test_revision_shows_the_critic_no_rejected_response(self):
        improved = "<improved_answer>fine</improved_answer>"
        model = ScriptedChatModel(
            replies=["poor", "middling", "excellent", "a loss", "a gradient", *[improved] * 3]
        )
        out = graph_of(model, prompts="revision").invoke(QUERY, context={"depth": 1, "width": 3})
        rejected = out["rejected"]["response"]
        assert (rejected, out["chosen"]["response"]) == ("poor", "excellent")
        assert len(model.calls) > 1
        assert all("poor" not in whole(messages) for messages, _ in model.calls[1:])


class TestWaysToRun:
    """invoke, ainvoke, stream and astream, inside and outside of event loops."""

    CONTEXT = TPOContext(depth=1, width=2)

    async def test_ainvoke_and_invoke_inside_a_running_loop(self):
        graph = graph_of()
        a = await graph.ainvoke(QUERY, context=self.CONTEXT)
        b = graph.invoke(QUERY, context=self.CONTEXT)
        assert a["stop_reason"] == b["stop_reason"] == "depth"

    def test_stream(self):
        steps = [
            next(iter(chunk))
            for chunk in graph_of().stream(QUERY, context=self.CONTEXT, stream_mode="updates")
        ]
        assert steps == [
            "sample",
            "reward_score",
            "select",
            "loss",
            "gradient",
            "update",
            "reward_score",
            "select",
        ]

    async def test_astream_tells_events_in_order(self):
        chunks = graph_of().astream(QUERY, context=self.CONTEXT, stream_mode="custom")
        events = [chunk async for chunk in chunks]
        assert [event["event"] for event in events] == [
            "samples",
            "rewards",
            "new_best",
            "loss",
            "gradient",
            "samples",
            "rewards",
            "new_best",
            "stopped",
        ]
        assert len({event["run_id"] for event in events}) == 1

    def test_one_graph_in_several_event_loops(self):
        graph = graph_of()
        for _ in range(2):
            out = asyncio.run(graph.ainvoke(QUERY, context=self.CONTEXT))
            assert out["stop_reason"] == "depth"

    def test_a_second_call_on_one_thread_is_a_new_run(self):
        graph = graph_of(checkpointer=InMemorySaver())
        config: Any = {"configurable": {"thread_id": "t"}}
        first = graph.invoke(QUERY, config, context=self.CONTEXT)
        second = graph.invoke({"messages": [("user", "Again.")]}, config, context=self.CONTEXT)
        assert first["run_id"] != second["run_id"]
        kinds = [message.type for message in second["messages"]]
        assert kinds == ["human", "ai", "human", "ai"]
        assert [row["iteration"] for row in second["history"]] == [0, 1]


class TestState:
    def sizes(self, depth: int) -> list[int]:
        """Bytes of the state in each checkpoint of one run, one row of history left out."""
        saver = InMemorySaver()

        def play(messages: Any, index: int) -> str:
            prompt = messages[-1].text
            text = f"{index:04d}" + "x" * 4_000
            return f"<improved_answer>{text}</improved_answer>" if "</impr" in prompt else text

        graph = graph_of(ScriptedChatModel(replies=play), checkpointer=saver)
        config: Any = {"configurable": {"thread_id": "t"}}
        graph.invoke(QUERY, config, context={"depth": depth, "width": 5})
        serde = JsonPlusSerializer()
        return [
            len(serde.dumps_typed({**c.checkpoint["channel_values"], "history": []})[1])
            for c in saver.list(config)
        ]

    def test_the_checkpointed_state_does_not_grow_with_depth(self):
        shallow, deep = max(self.sizes(1)), max(self.sizes(8))
        assert deep < shallow + 200
        assert deep < 50_000

    def test_the_state_is_plain_json_but_for_messages(self):
        out = graph_of().invoke(QUERY)
        del out["messages"]
        assert json.loads(json.dumps(out)) == out


async def test_the_cache_holds_every_candidate_and_step():
    cache = MemoryCache()
    out = await graph_of(cache=cache).ainvoke(QUERY, context={"depth": 2, "width": 3})
    candidates = await cache.candidates(out["run_id"])
    assert [(c["iteration"], c["position"]) for c in candidates] == [
        (i, p) for i in range(3) for p in range(3)
    ]
    steps = await cache.steps(out["run_id"])
    assert [step["iteration"] for step in steps] == [0, 1, 2]
    assert steps[0]["loss"]
    assert steps[0]["gradient"]
    assert "loss" not in steps[2]
    assert steps[2]["chosen"] == out["chosen"]
