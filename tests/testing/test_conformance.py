"""Each test of the conformance suite fails for a reward model that breaks what it is about."""

import asyncio
import math

import pytest

from tpo_graph.errors import RewardError, RewardInputError
from tpo_graph.testing.conformance import RewardModelTests

SUITE = RewardModelTests()


class Good:
    """Scores by length: what the broken ones are made from."""

    name = "good-1"

    async def score(self, conversation, responses):
        return [float(len(response)) / 100 for response in responses]


class NameMoves(Good):
    calls = 0

    @property
    def name(self):
        self.calls += 1
        return f"model-{self.calls}"


class OneShort(Good):
    async def score(self, conversation, responses):
        return (await super().score(conversation, responses))[: max(1, len(responses) - 1)]


class NotANumber(Good):
    async def score(self, conversation, responses):
        return [math.nan for _ in responses]


class ATensor(Good):
    async def score(self, conversation, responses):
        return tuple(await super().score(conversation, responses))


class NeverEmpty(Good):
    async def score(self, conversation, responses):
        return await super().score(conversation, responses or [""])


class Moody(Good):
    calls = 0

    async def score(self, conversation, responses):
        self.calls += 1
        return [score + self.calls for score in await super().score(conversation, responses)]


class RanksTheBatch(Good):
    async def score(self, conversation, responses):
        return [float(sorted(responses).index(response)) for response in responses]


class Sorts(Good):
    async def score(self, conversation, responses):
        return sorted(await super().score(conversation, responses))


class Ascii(Good):
    async def score(self, conversation, responses):
        return [float(len(response.encode())) for response in responses]


class OneTurnOnly(Good):
    async def score(self, conversation, responses):
        if len(conversation) > 1:
            raise RewardError("one turn only")
        return await super().score(conversation, responses)


class LimitedByAccident(Good):
    async def score(self, conversation, responses):
        if any(len(response) > 10_000 for response in responses):
            raise IndexError("index out of range in self")
        return await super().score(conversation, responses)


class ScalesByLength(Good):
    async def score(self, conversation, responses):
        longest = max(map(len, responses), default=0)
        return [score + longest for score in await super().score(conversation, responses)]


class ReadsControlTokens(Good):
    """Joins the conversation to one text, as a template without care would."""

    async def score(self, conversation, responses):
        def template(turns):
            written = [f"<|im_start|>{t['role']}\n{t['content']}<|im_end|>\n" for t in turns]
            return sum(ord(c) * i for i, c in enumerate("".join(written))) / 1e7

        return [
            template([*conversation, {"role": "assistant", "content": response}])
            for response in responses
        ]


class BreaksOnBOS(Good):
    async def score(self, conversation, responses):
        double = any("<s>" in response for response in responses)
        return [score + double for score in await super().score(conversation, responses)]


class MixesUpCalls(Good):
    def __init__(self):
        self.asked = ""

    async def score(self, conversation, responses):
        self.asked = conversation[-1]["content"]
        await asyncio.sleep(0)
        return [float(len(response) + hash(self.asked) % 1000) for response in responses]


class NeverStops(Good):
    busy = False

    async def score(self, conversation, responses):
        if self.busy:
            raise RewardError("still busy with another call")
        self.busy = True
        scores = await super().score(conversation, responses)
        await asyncio.sleep(0)
        self.busy = False
        return scores


@pytest.mark.parametrize(
    ("model", "broken"),
    [
        (NameMoves, "test_has_a_name"),
        (OneShort, "test_one_finite_number_per_response"),
        (NotANumber, "test_one_finite_number_per_response"),
        (ATensor, "test_one_finite_number_per_response"),
        (NeverEmpty, "test_no_responses_no_scores"),
        (Moody, "test_the_same_every_time"),
        (RanksTheBatch, "test_a_batch_scores_as_its_responses_one_by_one"),
        (Sorts, "test_scores_are_in_the_order_of_the_responses"),
        (Ascii, "test_any_unicode_can_be_scored"),
        (OneTurnOnly, "test_history_and_system_prompts"),
        (LimitedByAccident, "test_very_long_responses_are_scored_or_refused"),
        (ScalesByLength, "test_a_refused_response_leaves_the_others_their_scores"),
        (ReadsControlTokens, "test_responses_cannot_open_turns_of_their_own"),
        (BreaksOnBOS, "test_control_tokens_leave_other_responses_alone"),
        (MixesUpCalls, "test_calls_at_once_equal_calls_in_turn"),
        (NeverStops, "test_a_cancelled_call_is_gone"),
    ],
)
def test_a_broken_model_is_found_out(model, broken):
    getattr(SUITE, broken)(Good())
    with pytest.raises((AssertionError, UnicodeEncodeError, RewardError)):
        getattr(SUITE, broken)(model())


def test_every_test_of_the_suite_is_tried_above():
    marks = test_a_broken_model_is_found_out.pytestmark  # type: ignore[attr-defined]
    tried = {broken for _, broken in marks[0].args[1]}
    assert tried == {name for name in dir(RewardModelTests) if name.startswith("test_")}


def test_a_model_without_opinions_is_not_accused_of_reading_control_tokens():
    class Constant(Good):
        async def score(self, conversation, responses):
            return [1.0 for _ in responses]

    SUITE.test_responses_cannot_open_turns_of_their_own(Constant())


def test_a_refusal_says_why():
    class Silent(Good):
        async def score(self, conversation, responses):
            if any(len(response) > 10_000 for response in responses):
                raise RewardInputError
            return await super().score(conversation, responses)

    with pytest.raises(AssertionError, match="does not say what is wrong"):
        SUITE.test_very_long_responses_are_scored_or_refused(Silent())


def test_the_tolerance_can_be_set():
    class Bfloat16(Good):
        calls = 0

        async def score(self, conversation, responses):
            self.calls += 1
            return [s + self.calls * 1e-2 for s in await super().score(conversation, responses)]

    class Tolerant(RewardModelTests):
        tolerance = 5e-2

    with pytest.raises(AssertionError, match="scored again"):
        SUITE.test_the_same_every_time(Bfloat16())
    Tolerant().test_the_same_every_time(Bfloat16())
