"""Strategies in the six nodes: what is shown, which answer is picked, when it stops; resumed."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.errors import GraphDrained
from langgraph.runtime import RunControl

from tpo_graph import (
    Candidate,
    TPOResult,
    aoptimize,
    create_tpo_graph,
    extend,
    optimize,
    resume,
)
from tpo_graph.batch.job import arun_batch
from tpo_graph.batch.output import output_rows
from tpo_graph.candidates import IterationSummary, summarize
from tpo_graph.context import TPOContext
from tpo_graph.errors import ConfigurationError, PromptError
from tpo_graph.evaluation.finished import read_finished
from tpo_graph.prompts import load_prompts
from tpo_graph.rewards import Score
from tpo_graph.rows import make_rows
from tpo_graph.store import open_store
from tpo_graph.store.trajectory import answer, export_runs
from tpo_graph.strategies import ExpectedGain, Pool, RandomSubset, Shown, Tempered, TopK, named
from tpo_graph.strategies.methods import method_settings
from tpo_graph.testing import ScriptedChatModel

_ANSWER = re.compile(r"<answer_\d+>\n(.*?)\n</answer_\d+>", re.DOTALL)


def numbers(messages: Any, index: int) -> str:
    """Answers are "a0", "a1", ... in the order in which they are drawn."""
    prompt = messages[-1].text
    if '"verdict"' in messages[0].text:  # the judge: the answer of the lower number is better
        first, second = (int(n) for n in re.findall(r"^a(\d+)$", prompt, re.MULTILINE)[:2])
        return json.dumps({"reasons": "r", "verdict": "A++" if first < second else "B++"})
    if "</improved_answer>" in prompt:
        return f"<improved_answer>a{index}</improved_answer>"
    asked = "".join(message.text for message in messages)
    return "critique" if "_answer>" in asked or "<answer_" in asked else f"a{index}"


def later_is_better(query: str, response: str) -> float:
    return float(response[1:])


def run(model: ScriptedChatModel, **settings: Any) -> TPOResult:
    options = {"width": 4, "depth": 2, "seed": 7, "reward_model": later_is_better, **settings}
    return optimize("q", model=model, **options)


def shown_to_updates(model: ScriptedChatModel) -> list[list[str]]:
    """The answers in each request of an update that shows several, in order."""
    prompts = [m[-1].text for m, _ in model.calls if "</improved_answer>" in m[-1].text]
    return [_ANSWER.findall(prompt) for prompt in prompts]


def test_top_k_shows_the_best_of_all_iterations_and_without_a_critic_nothing_else_is_asked() -> (
    None
):
    model = ScriptedChatModel(replies=numbers)
    result = run(
        model, prompts="synthesis", select="top-k:3", reward_model=lambda q, r: -int(r[1:])
    )
    assert shown_to_updates(model) == [["a0", "a1", "a2"]] * 2
    assert result.response == "a0"
    assert len(model.calls) == 3
    assert result.usage["loss"]["requests"] == result.usage["gradient"]["requests"] == 0
    assert result.steps[0]["gradient"].startswith("Write one answer")


def test_random_subsets_give_every_sample_of_the_update_its_own_of_the_newest_population() -> None:
    model = ScriptedChatModel(replies=numbers)
    run(model, prompts="synthesis", select="random-subset:2", width=5)
    requests = shown_to_updates(model)
    assert [len(answers) for answers in requests] == [2] * 10
    first, second = requests[:5], requests[5:]
    assert {a for answers in first for a in answers} <= {f"a{i}" for i in range(5)}
    assert {a for answers in second for a in answers} <= {f"a{i}" for i in range(5, 10)}
    assert len({tuple(answers) for answers in first}) > 1
    again = ScriptedChatModel(replies=numbers)
    run(again, prompts="synthesis", select="random-subset:2", width=5)
    assert shown_to_updates(again) == requests  # the seed decides, not the run's id


def test_with_a_critic_subsets_are_not_mixed_with_a_critique_of_another() -> None:
    model = ScriptedChatModel(replies=numbers)
    run(model, select="random-subset:3", depth=1)
    assert [kwargs["n"] for _, kwargs in model.calls] == [4, 1, 1, 4]


@pytest.mark.parametrize(
    ("select", "chosen", "rejected"),
    [("pair", "a0", "a9"), ("reversed-pair", "a9", "a0"), ("newest", "a6", "a9")],
)
def test_what_the_critic_takes_for_chosen(select: str, chosen: str, rejected: str) -> None:
    model = ScriptedChatModel(replies=numbers)
    result = run(model, select=select, reward_model=lambda q, r: -int(r[1:]))
    step = result.steps[1]
    assert (step["chosen"]["response"], step["rejected"]["response"]) == (chosen, rejected)
    assert result.response == "a0"  # the answer is the best all the same
    last_loss = [m[-1].text for m, _ in model.calls if "Two answers" in m[-1].text][-1]
    assert f"<chosen_answer>\n  {chosen}"[:16] in last_loss
    assert chosen in last_loss.split("<chosen_answer>")[1].split("</chosen_answer>")[0]


def test_resampling_is_best_of_n_in_rounds() -> None:
    model = ScriptedChatModel(replies=numbers)
    result = run(model, prompts="resample")
    assert [(m[-1].text, k["n"]) for m, k in model.calls] == [("q", 4)] * 3
    assert [k["seed"] for _, k in model.calls] == sorted({k["seed"] for _, k in model.calls})
    assert result.response == "a11"


def test_a_knockout_asks_the_critic_in_both_orders_and_its_cost_is_the_runs() -> None:
    model = ScriptedChatModel(replies=numbers)
    result = run(model, depth=0, pick="knockout:3")  # rewards favour a3, the judge low numbers
    assert result.response == "a1"  # the best by the judge of the three highest rewards
    assert result.usage["select"]["requests"] == 4
    assert result.usage["select"]["completion_tokens"] > 0
    assert result.steps[-1]["chosen"]["response"] == "a1"


def test_comparisons_without_a_verdict_go_to_the_higher_reward() -> None:
    model = ScriptedChatModel(replies=lambda m, i: "no" if len(m) > 1 else f"a{i}")
    assert run(model, depth=0, pick="knockout:3").response == "a3"


def test_a_tempered_answer_is_drawn_by_softmax_in_units_of_the_first_samples_spread() -> None:
    candidates = [
        Candidate(iteration=0, position=i, reward=reward, response=str(i))
        for i, reward in enumerate([0.0, 100.0])
    ]
    pick, scale = Tempered(0.5), 100.0
    wins = Counter(
        min(candidates, key=lambda c: pick.order(c, scale, str(salt)))["position"]
        for salt in range(4000)
    )
    assert wins[1] / 4000 == pytest.approx(1 / (1 + 2.718281828**-2), abs=0.02)
    model = ScriptedChatModel(replies=numbers)
    answers = {run(model, depth=0, pick="tempered:2", seed=seed).response for seed in range(12)}
    assert len(answers) > 2
    fixed = ScriptedChatModel(replies=["a0", "a1", "a2", "a3"])
    drawn = {run(fixed, depth=0, pick="tempered:2", seed=3).response for _ in range(3)}
    assert len(drawn) == 1


def history(*rewards: Sequence[float]) -> list[IterationSummary]:
    rows: list[IterationSummary] = []
    top = float("-inf")
    for iteration, found in enumerate(rewards):
        top = max(top, *found)
        samples = [
            Candidate(iteration=iteration, position=i, reward=reward, response="r")
            for i, reward in enumerate(found)
        ]
        rows.append(summarize(iteration, samples, top, 1))
    return rows


def test_the_expected_gain_of_a_run_is_that_of_its_newest_samples_over_the_best() -> None:
    random = Random(0)
    rewards = [random.gauss(0, 1) for _ in range(2000)]
    spread = history(rewards)[0]["std"] or 0
    excess = fmean(max(0.0, max(random.sample(rewards, 5)) - 2.0) for _ in range(20_000))
    rows = history(rewards[:5])
    rows[0] |= {"mean": fmean(rewards), "std": spread, "n": 5, "best_so_far": 2.0}
    widened = 1.5 * excess  # the spread of five is widened for how few they are
    assert not ExpectedGain(excess)(rows)
    assert ExpectedGain(8 * widened)(rows)
    assert not ExpectedGain(0.1)(history([1.0, 1.0]))  # no spread, no unit: it goes on


def test_gains_are_learned_in_units_of_each_runs_spread_and_fit_in_a_name() -> None:
    small, large = history([0, 2], [4], [4]), history([0, 200], [600], [700])
    rule = ExpectedGain.learn(0.3, [small, large])
    assert rule.name == "expected-gain:0.3:3,0.5"
    again = named("stop", rule.name)
    assert not again(small[:2])
    assert ExpectedGain(0.6, [3, 0.5])(small[:2])
    with pytest.raises(ValueError, match="no run"):
        ExpectedGain.learn(0.3, [history([1, 1])])


def test_a_rule_ends_a_run_and_says_so() -> None:
    result = run(ScriptedChatModel(replies=numbers), stop="expected-gain:0.5:2,0.1", depth=9)
    assert (result.stop_reason, len(result.history)) == ("stop_rule", 2)


class Second:
    """A strategy of a user's own, for select and for pick."""

    name, keep = "second", 2

    def __call__(self, pool: Pool, draw: Random, width: int) -> Shown:
        return [[pool.kept[1], pool.kept[0]]]


def test_an_async_rule_is_refused_not_taken_for_yes() -> None:
    class Never:
        name = "never"

        async def __call__(self, history: Sequence[IterationSummary]) -> bool:
            return False

    model, rule = ScriptedChatModel(replies=numbers), Never()
    with pytest.raises(ConfigurationError, match=r"stop=<.*Never.*> is async.*a plain function"):
        run(model, stop=rule)
    with pytest.raises(ConfigurationError, match="is async"):
        create_tpo_graph(model, later_is_better, strategies=[rule], stop="never")
    assert model.calls == []


def test_an_object_of_ones_own_is_a_strategy_and_a_resume_asks_for_it(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'tpo.db'}"
    drain = RunControl()
    model = ScriptedChatModel(replies=numbers)

    def stop_early(event: Any) -> None:
        if event["event"] == "loss":
            drain.request_drain()

    with pytest.raises(GraphDrained):
        run(model, select=Second(), database=url, run_id="r", on_event=stop_early, control=drain)
    with pytest.raises(ConfigurationError, match=r"select='second' is not a strategy.*OBJECT"):
        resume("r", database=url, model=model, reward_model=later_is_better)
    given: dict[str, Any] = {"database": url, "model": model, "reward_model": later_is_better}
    result = resume("r", strategies=[Second()], **given)
    assert result.steps[0]["chosen"]["response"] == "a2"
    assert result.stop_reason == "depth"


def test_feedback_asks_no_critic_and_hands_the_reasons_to_the_update():
    model = ScriptedChatModel(replies=numbers)

    def judged(query: str, response: str) -> Score:
        return Score(later_is_better(query, response), f"Shorten {response}.")

    result = run(model, depth=1, reward_model=judged, **method_settings("feedback"))
    best = result.steps[0]["chosen"]["response"]
    first, update = [messages[-1].text for messages, _ in model.calls]
    assert first == "q"
    assert f"Shorten {best}." in update
    assert result.usage["loss"]["requests"] == result.usage["gradient"]["requests"] == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"select": "top-k:3", "prompts": "synthesis"},
        {"select": "random-subset:2", "prompts": "synthesis"},
        {"select": "top-k:3", "prompts": "tmpc"},
        {"select": "newest", "pick": "tempered:1"},
        {"pick": "knockout:3"},
        {"prompts": "no-critique", "select": "reversed-pair"},
    ],
)
def test_a_run_stopped_after_any_step_and_extended_equals_one_that_was_not(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    whole = run(ScriptedChatModel(replies=numbers), depth=3, **settings)
    url = f"sqlite:///{tmp_path / 'tpo.db'}"
    model = ScriptedChatModel(replies=numbers)
    given: dict[str, Any] = {"database": url, "model": model, "reward_model": later_is_better}
    drain = RunControl()

    def after_each(event: Any) -> None:
        drain.request_drain()

    with pytest.raises(GraphDrained):
        run(
            model, depth=2, run_id="r", database=url, on_event=after_each, control=drain, **settings
        )
    for _ in range(30):
        step = RunControl()
        try:
            resume("r", on_event=lambda e, c=step: c.request_drain(), control=step, **given)
            break
        except GraphDrained:
            continue
    else:
        pytest.fail("it never ended")
    extended = extend("r", depth=3, **given)
    assert [c["reward"] for c in extended.candidates][:12] == [
        c["reward"] for c in whole.candidates
    ][:12]
    if "pick" not in settings:
        assert extended.response == whole.response
    asked = [step["chosen"]["response"] for step in extended.steps[:2]]
    assert asked == [step["chosen"]["response"] for step in whole.steps[:2]]


def test_the_state_does_not_grow_with_depth_nor_change_for_the_pair() -> None:
    def sizes(**context: Any) -> tuple[list[int], dict[str, Any]]:
        prompts = "tpo" if not context else "synthesis"
        graph = create_tpo_graph(
            ScriptedChatModel(replies=numbers), later_is_better, prompts=prompts
        )
        found: list[int] = []
        state: dict[str, Any] = {}
        settings = {"depth": 8, "width": 4, **context}
        for state in graph.stream(
            {"messages": [("user", "q")]}, context=settings, stream_mode="values"
        ):
            kept = {k: v for k, v in state.items() if k not in ("history", "messages", "usage")}
            found.append(len(json.dumps(kept)))
        return found, state

    grown, _ = sizes(select="top-k:3", pick="knockout:3")
    assert max(grown[30:]) < 1.2 * max(grown[:20])
    _, plain = sizes()
    assert not {"shown", "kept", "finalists", "answer"} & plain.keys()


@given(st.text(max_size=30), st.sampled_from(["select", "pick", "stop"]))
def test_any_name_is_a_strategy_or_one_clear_error(name: str, kind: Any) -> None:
    try:
        assert named(kind, name).name
    except ConfigurationError as e:
        if repr(name) not in str(e):
            pytest.fail(str(e))


@pytest.mark.parametrize("name", ["top-k:1", "top-k:x", "pair:2", "top-k:", "top-k:1000"])
def test_wrong_parameters_are_told_before_anything_is_asked(name: str) -> None:
    model = ScriptedChatModel()
    with pytest.raises(ConfigurationError, match="select="):
        run(model, select=name)
    with pytest.raises(ConfigurationError, match="neither a name nor a strategy"):
        run(model, select=object())
    assert not model.calls


def test_names_say_their_parameters() -> None:
    assert TopK(4).name == named("select", "top-k:4").name == "top-k:4"
    assert RandomSubset(2).name == "random-subset:2"
    assert TPOContext().select == "pair"


def test_a_set_without_a_prompt_says_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "loss.yaml").write_text("standing: no\nuser: x\n")
    (folder / "gradient.yaml").write_text("standing: Go.\n")
    (folder / "update.yaml").write_text("resample: true\n")
    with pytest.raises(PromptError, match="only `standing`"):
        load_prompts(folder)
    (folder / "loss.yaml").write_text("standing: None.\n")
    assert load_prompts(folder).update.resample
    (folder / "update.yaml").write_text("resample: 3\n")
    with pytest.raises(PromptError, match="resample: true"):
        load_prompts(folder)
    (folder / "update.yaml").write_text("continues: gradient\nuser: x\ninput_variables: []\n")
    with pytest.raises(PromptError, match="standing"):
        load_prompts(folder)


async def test_what_was_picked_is_the_answer_wherever_a_stored_run_is_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'tpo.db'}"
    model = ScriptedChatModel(replies=numbers)
    settings: dict[str, Any] = {"width": 4, "depth": 0, "pick": "knockout:3"}
    await arun_batch(
        make_rows(["q"]),
        name="b",
        database=url,
        model=model,
        reward_model=later_is_better,
        **settings,
    )
    async with open_store(url) as store:
        output = [row async for row in output_rows(store, "b")]
        (trajectory,) = [found async for found in export_runs(store)]
        (batch,) = await read_finished(store, "b", 0)
    assert output[0]["response"] == answer(trajectory)["response"] == "a1"
    assert (batch.finished[0].response, batch.finished[0].reward) == ("a1", 1.0)
    held_out = await aoptimize(
        "q", model=model, reward_model=later_is_better, audit=later_is_better, **settings
    )
    assert held_out.response == "a9"  # of a8 to a11: the audit does not change what was picked
