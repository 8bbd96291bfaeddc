"""What a reward model promises is enforced: one finite number per response."""

import pytest

from tpo_graph.conversation import Turn
from tpo_graph.errors import RewardError, RewardInputError
from tpo_graph.rewards import RewardModel, checked_scores

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
    scores = await checked_scores(Fixed((1, 2.5)), ASKED, ["a", "b"])
    assert scores == [1.0, 2.5]
    assert all(type(score) is float for score in scores)


async def test_no_responses_no_scores():
    assert await checked_scores(Fixed([]), ASKED, []) == []


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
        (None, r"'fixed-1' failed: TypeError"),
    ],
)
async def test_a_broken_promise_names_the_model_and_the_value(scores, message):
    with pytest.raises(RewardError, match=message):
        await checked_scores(Fixed(scores), ASKED, ["a", "b"])


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
