"""What a reward model read is in the run's ledger where the model knows it, and in no budget."""

import pytest

from tests.reward_server import RewardServer
from tests.tiny_models import classifier
from tpo_graph import optimize
from tpo_graph.conversation import Turn
from tpo_graph.rewards import LocalRewardModel, checked_scores
from tpo_graph.rewards.sglang import SGLangRewardModel
from tpo_graph.rewards.together import together
from tpo_graph.rewards.vllm import VLLMRewardModel
from tpo_graph.testing import ScriptedChatModel, prefer_longer
from tpo_graph.usage import no_usage, spend, spending, total_tokens

ASKED = [Turn(role="user", content="Which is better?")]
RESPONSES = ["The quick brown fox.", "jumps over the lazy dog " * 3, "The quick brown fox."]


async def spent_by(model, responses=RESPONSES):
    with spending() as usage:
        await checked_scores(model, ASKED, responses)
    return usage["requests"], usage["prompt_tokens"]


async def test_a_local_model_counts_each_different_response_with_its_conversation():
    from transformers import AutoTokenizer

    folder = classifier()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    answered = [[*ASKED, Turn(role="assistant", content=text)] for text in RESPONSES[:2]]
    rows = [tokenizer.apply_chat_template(turns, return_dict=False) for turns in answered]
    tokens = sum(map(len, rows))
    assert await spent_by(LocalRewardModel(folder)) == (0, tokens)
    assert await spent_by(LocalRewardModel(folder), []) == (0, 0)


async def test_servers_are_counted_by_what_they_report_or_were_sent():
    folder = classifier()
    _, tokens = await spent_by(LocalRewardModel(folder), RESPONSES[:2])
    with RewardServer("vllm", folder) as vllm, RewardServer("sglang", folder) as sglang:
        by_message = VLLMRewardModel(vllm.url, "rm")
        # The test server's usage says 1 for any request.
        assert await spent_by(by_message) == (3, 3)
        ids = SGLangRewardModel(sglang.url, "rm", tokenizer=folder)
        assert await spent_by(ids, RESPONSES[:2]) == (1, tokens)


async def test_calls_side_by_side_are_collected_and_other_collectors_are_not_touched():
    async def call():
        spend({**no_usage(), "completion_tokens": 2})

    with spending() as outer:
        with spending() as inner:
            await together(call() for _ in range(3))
        await call()
    spend({**no_usage(), "completion_tokens": 99})  # nobody collects
    assert (outer["completion_tokens"], inner["completion_tokens"]) == (2, 6)


def test_a_run_s_ledger_has_them_and_its_token_budget_does_not():
    class Counting:
        name = "counting"

        async def score(self, conversation, responses):
            spend({**no_usage(), "prompt_tokens": 1000, "completion_tokens": 10, "requests": 2})
            return [float(len(response)) for response in responses]

    result = optimize("Say hello.", model=ScriptedChatModel(), reward_model=Counting(), depth=1)
    scored = result.usage["reward_score"]
    assert scored["requests"] == 4
    assert (scored["prompt_tokens"], scored["completion_tokens"]) == (2000, 20)
    plain = optimize("Say hello.", model=ScriptedChatModel(), reward_model=prefer_longer, depth=1)
    assert plain.usage["reward_score"]["requests"] == 2
    assert total_tokens(result.usage) == total_tokens(plain.usage)


@pytest.mark.parametrize("usage", [None, [], {"prompt_tokens": "many"}])
async def test_a_server_that_reports_nothing_readable_is_still_a_request(usage):
    with RewardServer("vllm", classifier()) as server:
        listed = server._listed
        server._listed = lambda prefix, data: {**listed(prefix, data), "usage": usage}
        assert await spent_by(VLLMRewardModel(server.url, "rm"), ["a"]) == (1, 0)
