"""Length penalties: what is taken off, curves and their fit, stored runs, files, names."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_models import classifier
from tpo_graph import optimize
from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError, RewardError
from tpo_graph.rewards import (
    FunctionReward,
    LengthCurve,
    LengthPenalty,
    fit_length_curve,
    load_reward_model,
    stored_scores,
)
from tpo_graph.testing import ScriptedChatModel

ASKED = [Turn(role="user", content="Foxes or dogs?")]
CURVE = LengthCurve((10.0, 20.0, 40.0), (-1.0, 1.0, 2.0))
LONG = FunctionReward(lambda query, response: float(len(response)), name="long")


async def test_so_much_is_taken_off_per_character():
    assert await LengthPenalty(LONG, 1.0).score(ASKED, ["a", "aaaa"]) == [0.0, 0.0]
    assert await LengthPenalty(LONG, 0.5).score(ASKED, ["a", "aaaa", ""]) == [0.5, 2.0, 0.0]


async def test_what_the_curve_says_is_taken_off_also_beyond_its_ends():
    flat = FunctionReward(lambda query, response: 0.0, name="flat")
    lengths = (10, 15, 20, 30, 40, 60, 5)
    scores = await LengthPenalty(flat, CURVE).score(ASKED, ["x" * n for n in lengths])
    assert scores == pytest.approx([1.0, 0.0, -1.0, -1.5, -2.0, -3.0, 2.0])


def groups(worth, seed=0, noise=0.3):
    """Conversations that differ in level and in usual length, against what length is worth."""
    draw = random.Random(seed)
    for _ in range(60):
        usual, level = draw.uniform(50, 300), 0.0
        level = -0.05 * usual  # asked for more, scored lower
        lengths = [max(1, int(draw.gauss(usual, 40))) for _ in range(5)]
        yield [("x" * n, level + worth(n) + draw.gauss(0, noise)) for n in lengths]


def test_a_fit_finds_what_length_is_worth_within_a_conversation():
    curve = fit_length_curve(list(groups(lambda n: 0.02 * n)))
    assert curve.at(250) - curve.at(100) == pytest.approx(3.0, abs=0.45)
    assert curve.at(400) - curve.at(300) == pytest.approx(2.0, abs=0.6)
    bent = fit_length_curve(list(groups(lambda n: 4.0 if n > 150 else 0.0)))
    assert bent.at(90) - bent.at(60) == pytest.approx(0.0, abs=1.2)
    assert bent.at(230) - bent.at(70) > 2.5


async def test_rewards_keep_their_mean_and_lose_their_liking_for_length():
    given_rewards = list(groups(lambda n: 0.02 * n, seed=1))
    curve = fit_length_curve(given_rewards)
    taken = [curve.at(len(text)) for responses in given_rewards for text, _ in responses]
    assert sum(taken) / len(taken) == pytest.approx(0.0, abs=0.01)
    assert fit_length_curve(
        [[(t, r - curve.at(len(t))) for t, r in responses] for responses in given_rewards]
    ).rewards == pytest.approx((0.0,) * 7, abs=0.15)


@pytest.mark.parametrize("scored", [[], [[("a", 1.0)] * 100], [[("a", 1.0), ("bb", 2.0)]]])
def test_a_fit_needs_responses_of_different_lengths(scored):
    with pytest.raises(ConfigurationError, match="no length curve from"):
        fit_length_curve(scored)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.text(max_size=200), st.floats(-1e6, 1e6)), min_size=30, max_size=60))
def test_any_scored_responses_give_a_curve_or_one_clear_error(rows):
    try:
        curve = fit_length_curve([rows[:10], rows[10:], []])
    except ConfigurationError as error:
        assert "no length curve" in str(error)  # noqa: PT017
    else:
        assert all(abs(curve.at(length)) < 1e9 for length in (0, 100, 1000))


@pytest.mark.parametrize(
    ("lengths", "rewards"),
    [
        ((1.0,), (0.0,)),
        ((2.0, 1.0), (0.0, 1.0)),
        ((1.0, 2.0), (0.0,)),
        ((1.0, float("inf")), (0.0, 1.0)),
        ((1.0, 2.0), (0.0, float("nan"))),
    ],
)
def test_a_curve_that_is_none_is_refused(lengths, rewards):
    with pytest.raises(ConfigurationError, match="two or more rising lengths"):
        LengthCurve(lengths, rewards)


def test_the_name_follows_the_reward_model_and_the_penalty():
    other = FunctionReward(lambda query, response: 0.0, name="other")
    models = [
        LengthPenalty(LONG, 0.1),
        LengthPenalty(LONG, 0.2),
        LengthPenalty(LONG, CURVE),
        LengthPenalty(LONG, LengthCurve(CURVE.lengths, (-1.0, 1.0, 2.1))),
        LengthPenalty(other, 0.1),
    ]
    assert len({model.name for model in models}) == 5
    assert models[0].name == LengthPenalty(LONG, 0.1).name
    assert models[0].name.startswith("length-penalty@")
    assert models[0].name.endswith(":long")


async def test_failures_of_the_reward_model_are_told_under_its_own_name():
    broken = FunctionReward(lambda query, response: float("nan"), name="broken")
    with pytest.raises(RewardError, match="'broken' returned nan"):
        await LengthPenalty(broken, 0.1).score(ASKED, ["a"])
    with pytest.raises(ConfigurationError, match="penalty of nan"):
        LengthPenalty(LONG, float("nan"))


async def test_from_a_file_with_a_coefficient_or_a_curve(tmp_path):
    (tmp_path / "weights").symlink_to(classifier())
    path = tmp_path / "length.toml"
    text = 'reward_model = "local:./weights"\n'
    responses = ["Dogs.", "Foxes, because they are red."]
    plain = await load_reward_model(f"local:{classifier()}").score(ASKED, responses)

    for rest, penalty in (("coefficient = 0.25", 0.25), (CURVE.toml, CURVE)):
        path.write_text(text + rest)
        model = load_reward_model(f"length-penalty:{path}")
        worth = CURVE.at if rest == CURVE.toml else lambda length: 0.25 * length
        expected = [score - worth(len(r)) for score, r in zip(plain, responses, strict=True)]
        assert await model.score(ASKED, responses) == pytest.approx(expected)
        inner = load_reward_model(f"local:{classifier()}")
        assert model.name == LengthPenalty(inner, penalty).name

    for wrong in ("", f"coefficient = 1\n{CURVE.toml}"):
        path.write_text(text + wrong)
        with pytest.raises(ConfigurationError, match=r"length\.toml.*needs a coefficient"):
            load_reward_model(f"length-penalty:{path}")


def export(tmp_path, *reward_models):
    """Runs as `tpo runs export` writes them."""
    import asyncio

    from tpo_graph.store import open_store
    from tpo_graph.store.trajectory import export_runs

    database = f"sqlite:///{tmp_path / 'tpo.db'}"
    for number, reward_model in enumerate(reward_models):
        replies = [f"Dog{'s' * (7 * number + i)}" for i in range(8)]
        optimize(
            f"Foxes or dogs, {number}?",
            model=ScriptedChatModel(replies=replies),
            reward_model=reward_model,
            width=3,
            depth=0,
            database=database,
        )

    async def rows():
        async with open_store(database) as store:
            return [trajectory async for trajectory in export_runs(store)]

    path = tmp_path / "runs.jsonl"
    path.write_text("".join(json.dumps(row, default=str) + "\n" for row in asyncio.run(rows())))
    return path


def test_stored_runs_give_their_first_samples(tmp_path):
    path = export(tmp_path, LONG, LONG)
    rows = path.read_text().splitlines()
    later = json.loads(rows[0])
    later["candidates"][-1]["iteration"] = 1
    path.write_text("\n".join([json.dumps(later), rows[1], rows[1]]))
    scored = stored_scores(path)
    assert [len(responses) for responses in scored] == [2, 6]
    assert all(reward == len(text) for responses in scored for text, reward in responses)


def test_stored_runs_of_two_reward_models_are_not_mixed(tmp_path):
    other = FunctionReward(lambda query, response: 0.5, name="other")
    path = export(tmp_path, LONG, other)
    with pytest.raises(ConfigurationError, match=r"\['long', 'other'\]: say which"):
        stored_scores(path)
    assert {r for responses in stored_scores(path, "other") for _, r in responses} == {0.5}
    path.write_text('{"run": 1}\n')
    for wrong in (path, tmp_path / "missing.jsonl"):
        with pytest.raises(ConfigurationError, match="not what `tpo runs export` writes"):
            stored_scores(wrong)
