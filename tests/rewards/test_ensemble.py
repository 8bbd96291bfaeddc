"""Ensembles: z-scores, the three ways to combine them, files, and failing members."""

import asyncio
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_models import classifier
from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError, RewardError
from tpo_graph.rewards import (
    Calibration,
    EnsembleRewardModel,
    FunctionReward,
    LengthPenalty,
    Member,
    Score,
    calibrate,
    load_reward_model,
)

ASKED = [Turn(role="user", content="Foxes or dogs?")]
STANDARD = Calibration(mean=0.0, std=1.0)


class Fixed:
    def __init__(self, *scores: float, name: str = "fixed") -> None:
        self.scores = list(scores)
        self.name = name

    async def score(self, conversation, responses):
        return self.scores[: len(responses)]


def members(*weights: float) -> list[Member]:
    """Two members that see the same in units of their own, then disagree on the last response."""
    return [
        Member(Fixed(10.0, 12.0, 20.0), Calibration(mean=10.0, std=2.0), weight=weights[0]),
        Member(Fixed(-3.0, -2.9, -3.1), Calibration(mean=-3.0, std=0.1), weight=weights[1]),
    ]


async def test_scores_are_made_comparable_first():
    model = EnsembleRewardModel(members(1, 1), "mean")
    assert await model.score(ASKED, ["a", "b", "c"]) == pytest.approx([0.0, 1.0, 2.0])
    weighted = EnsembleRewardModel(members(3, 1), "mean")
    assert await weighted.score(ASKED, ["a", "b", "c"]) == pytest.approx([0.0, 1.0, 3.5])


async def test_the_worst_case_and_the_spread_punish_what_one_member_overrates():
    worst = EnsembleRewardModel(members(1, 1), "min")
    assert await worst.score(ASKED, ["a", "b", "c"]) == pytest.approx([0.0, 1.0, -1.0])
    spread = EnsembleRewardModel(members(1, 1), "mean-std", penalty=0.5)
    assert await spread.score(ASKED, ["a", "b", "c"]) == pytest.approx([0.0, 1.0, 0.5])
    weighted = EnsembleRewardModel(members(3, 1), "mean-std", penalty=1.0)
    spread_of = statistics.pstdev([5.0, 5.0, 5.0, -1.0])
    assert (await weighted.score(ASKED, ["a", "b", "c"]))[2] == pytest.approx(3.5 - spread_of)


async def test_what_the_members_say_is_kept_with_their_names():
    def saying(name, *reasons):
        said = [Score(1.0, reason) for reason in reasons]
        return Member(Fixed(*said, name=name), STANDARD)

    both = EnsembleRewardModel([saying("one", "", "a", "b"), saying("other", "", "", "c")])
    scores = await both.score(ASKED, ["x", "y", "z"])
    assert [score.reason for score in scores] == ["", "a", "one: b\nother: c"]
    [penalized] = await LengthPenalty(Fixed(Score(1.0, "a")), 0.5).score(ASKED, ["xx"])
    assert (penalized, penalized.reason) == (0.0, "a")


@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=5),
    st.lists(st.floats(0.1, 10), min_size=5, max_size=5),
    st.floats(0, 3),
)
def test_min_is_never_above_mean_and_a_penalty_never_raises(scores, weights, penalty):
    made = [
        Member(Fixed(score, name=str(i)), STANDARD, weight)
        for i, (score, weight) in enumerate(zip(scores, weights, strict=False))
    ]
    equal = [Member(member.reward_model, STANDARD) for member in made]

    def of(model: EnsembleRewardModel) -> float:
        return asyncio.run(model.score(ASKED, ["a"]))[0]

    mean = of(EnsembleRewardModel(made, "mean"))
    assert min(scores) - 1e-6 <= mean <= max(scores) + 1e-6
    assert of(EnsembleRewardModel(made, "mean-std", penalty)) <= mean + 1e-9
    assert of(EnsembleRewardModel(equal, "min")) == min(scores)


async def test_a_failing_member_is_the_error_and_stops_the_others():
    stopped = asyncio.Event()

    class Broken(Fixed):
        async def score(self, conversation, responses):
            await asyncio.sleep(0)
            raise RewardError("the disk is gone")

    class Slow(Fixed):
        async def score(self, conversation, responses):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                stopped.set()
                raise

    model = EnsembleRewardModel([Member(Slow(), STANDARD), Member(Broken(), STANDARD)])
    with pytest.raises(RewardError, match="the disk is gone"):
        await model.score(ASKED, ["a"])
    assert stopped.is_set()
    nan = EnsembleRewardModel([Member(Fixed(float("nan"), name="odd"), STANDARD)])
    with pytest.raises(RewardError, match="'odd' returned nan"):
        await nan.score(ASKED, ["a"])


def test_the_name_follows_everything_that_decides():
    one = EnsembleRewardModel(members(1, 1), "mean-std", 0.5)
    assert one.name == EnsembleRewardModel(members(1, 1), "mean-std", 0.5).name
    assert one.name.startswith("ensemble:mean-std-of-2@")
    others = [
        EnsembleRewardModel(members(1, 1), "mean-std", 0.6),
        EnsembleRewardModel(members(1, 1), "mean"),
        EnsembleRewardModel(members(2, 1), "mean"),
        EnsembleRewardModel(members(1, 1)[:1], "mean"),
    ]
    assert len({model.name for model in (one, *others)}) == 5


@pytest.mark.parametrize(
    ("made", "combine", "penalty", "message"),
    [
        ([], "mean", 1.0, "needs members"),
        (members(1, 1), "max", 1.0, "'max' is not one of"),
        (members(1, 2), "min", 1.0, "weights mean nothing"),
        (members(1, 1), "mean-std", -1.0, "penalty=-1.0"),
        (members(1, 0), "mean", 1.0, "must be above 0"),
        ([Member(Fixed(), Calibration(0.0, 0.0))], "mean", 1.0, "must be above 0"),
        ([Member(Fixed(), Calibration(float("nan"), 1.0))], "mean", 1.0, "mean, std, weight"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(made, combine, penalty, message):
    with pytest.raises(ConfigurationError, match=message):
        EnsembleRewardModel(made, combine, penalty)


async def test_calibration_is_mean_and_standard_deviation():
    samples = [(ASKED, ["a", "aaa"]), (ASKED, ["aaaaa", "aaaaaaa"])]
    measured = await calibrate(FunctionReward(lambda q, r: len(r)), samples)
    assert measured == Calibration(mean=4.0, std=statistics.pstdev([1, 3, 5, 7]))
    with pytest.raises(RewardError, match="all the same"):
        await calibrate(FunctionReward(lambda q, r: 1.0), samples)


async def test_an_ensemble_from_a_file_with_paths_relative_to_it(tmp_path):
    folder = classifier()
    (tmp_path / "weights").symlink_to(folder)
    path = tmp_path / "ensemble.toml"
    text = f"""
        combine = "min"
        [[member]]
        reward_model = "local:./weights"
        mean = 0.1
        std = 2.0
        [[member]]
        reward_model = "local:{folder}"
        mean = 0.1
        std = 2.0
        """
    path.write_text(text)
    model = load_reward_model(f"ensemble:{path}")
    [alone] = await load_reward_model(f"local:{folder}").score(ASKED, ["Dogs."])
    assert await model.score(ASKED, ["Dogs."]) == pytest.approx([(alone - 0.1) / 2.0])

    path.write_text(text.replace("std = 2.0", "", 1))
    with pytest.raises(ConfigurationError, match=r"ensemble.toml.*member.0.std.*is missing"):
        load_reward_model(f"ensemble:{path}")
    path.write_text(text.replace("combine", "combined"))
    with pytest.raises(ConfigurationError, match="no setting 'combined'"):
        load_reward_model(f"ensemble:{path}")
