"""What a reward model promises is enforced: one finite number per response."""

import json
import math
import pickle

import pytest

from tpo_graph.conversation import Turn
from tpo_graph.errors import RewardError, RewardInputError
from tpo_graph.rewards import (
    Calibration,
    EnsembleRewardModel,
    LengthPenalty,
    Member,
    RewardModel,
    Score,
    as_reward_model,
    checked_scores,
    score_each,
)

ASKED = [Turn(role="user", content="hello")]


class Fixed:
    name = "fixed-1"

    def __init__(self, scores: object) -> None:
        self.scores = scores

    async def score(self, conversation, responses):
        if isinstance(self.scores, Exception):
            raise self.scores
        return self.scores


async def test_good_scores_come_back_as_floats():
    assert isinstance(Fixed([]), RewardModel)
    scores = await checked_scores(Fixed((1, Score(2.5, "good\ud83c"))), ASKED, ["a", "b"])
    assert scores == [1.0, 2.5]
    assert [score.reason for score in scores] == ["", "good\ufffd"]
    assert json.dumps(scores) == "[1.0, 2.5]"
    assert [(score, score.reason) for score in pickle.loads(pickle.dumps(scores))] == [  # noqa: S301
        (1.0, ""),
        (2.5, "good\ufffd"),
    ]


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0], r"'fixed-1' returned 1 scores for 2"),
        ([1.0, 2.0, 3.0], r"'fixed-1' returned 3 scores for 2"),
        ([1.0, float("nan")], r"'fixed-1' returned nan for response 1"),
        ([float("inf"), 1.0], r"'fixed-1' returned inf for response 0"),
        ([1.0, float("-inf")], r"'fixed-1' returned -inf for response 1"),
        ([1.0, "good"], r"'fixed-1' returned 'good' for response 1"),
        ([None, 1.0], r"'fixed-1' returned None for response 0"),
        ([Score(1.0, 3), 1.0], r"'fixed-1' gave the reason 3 for response 0"),
        ([1.0, float("nan")], r"for response 1, 'b'"),
        (None, r"'fixed-1' returned None for all responses: score must return a list"),
    ],
)
async def test_a_broken_promise_names_the_model_and_the_value(scores, message):
    with pytest.raises(RewardError, match=message):
        await checked_scores(Fixed(scores), ASKED, ["a", "b"])


async def test_a_score_that_is_not_async_says_so():
    class Plain:
        name = "plain-1"

        def score(self, conversation, responses):
            return [1.0]

    with pytest.raises(RewardError, match=r"'plain-1' is not async: it returned \[1.0\]. Write"):
        await checked_scores(Plain(), ASKED, ["a"])  # pyright: ignore[reportArgumentType]


async def test_a_function_is_told_by_its_place():
    with pytest.raises(RewardError, match=r"function <lambda> \(test_base.py:\d+\) returned None"):
        await checked_scores(as_reward_model(lambda q, r: None), ASKED, ["a"])


async def test_a_foreign_error_is_wrapped_and_kept():
    cause = OSError("disk gone")
    with pytest.raises(RewardError, match="'fixed-1' failed: OSError: disk gone") as caught:
        await checked_scores(Fixed(cause), ASKED, ["a"])
    assert caught.value.__cause__ is cause


async def test_our_own_error_passes_as_it_is():
    error = RewardInputError("too long")
    with pytest.raises(RewardInputError) as caught:
        await checked_scores(Fixed(error), ASKED, ["a"])
    assert caught.value is error


class Picky:
    """Refuses calls with "long" in them, has no finite score for "odd", and is down for "down"."""

    name = "picky"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    async def score(self, conversation, responses):
        self.calls.append(list(responses))
        if "down" in responses:
            raise RewardError("the server is down")
        if "long" in responses:
            raise RewardInputError("too long")
        return [math.nan if r == "odd" else Score(len(r), r) for r in responses]


@pytest.mark.parametrize(
    "made",
    [
        lambda model: model,
        lambda model: LengthPenalty(model, 0.0),
        lambda model: EnsembleRewardModel([Member(model, Calibration(0.0, 1.0))]),
    ],
)
async def test_one_response_that_cannot_be_scored_costs_no_other_its_score(made):
    model = made(Picky())
    one, long, odd, last = await score_each(model, ASKED, ["a", "long", "odd", "bb"])
    assert (one, last) == (1.0, 2.0)
    assert isinstance(one, Score)
    assert one.reason == "a"
    assert isinstance(long, RewardInputError)
    assert isinstance(odd, RewardInputError)
    assert "nan" in str(odd)


async def test_what_was_scored_is_not_scored_again():
    model = Picky()
    await score_each(model, ASKED, ["a", "odd", "bb"])
    assert model.calls == [["a", "odd", "bb"], ["odd"]]
    assert [type(e) for e in await score_each(model, ASKED, ["long"])] == [RewardInputError]
    assert model.calls[2:] == [["long"]]
    assert await score_each(model, ASKED, []) == []


@pytest.mark.parametrize("responses", [["down"], ["a", "down"]])
async def test_a_model_that_is_down_is_an_error_for_all(responses):
    with pytest.raises(RewardError, match="is down"):
        await score_each(Picky(), ASKED, responses)
