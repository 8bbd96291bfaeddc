"""Every back end passes the conformance suite; the servers behind the remote ones are real."""

import hashlib
import json
from collections.abc import Iterator

import pytest

from tests.reward_server import RewardServer
from tests.tiny_models import BOS_CHATML, classifier
from tpo_graph.rewards import (
    Calibration,
    EnsembleRewardModel,
    FunctionReward,
    JudgeRewardModel,
    LengthCurve,
    LengthPenalty,
    LocalRewardModel,
    Member,
    PairwiseJudge,
    RewardModel,
)
from tpo_graph.rewards.regex import RegexReward, Rule
from tpo_graph.rewards.sglang import SGLangRewardModel
from tpo_graph.rewards.vllm import VLLMRewardModel
from tpo_graph.testing import ScriptedChatModel
from tpo_graph.testing.conformance import RewardModelTests


def spread(query: str, response: str) -> float:
    """A number that depends on everything, like a random model's opinion."""
    text = f"{query}\0{response}".encode("utf-8", "surrogatepass")
    return int(hashlib.sha256(text).hexdigest()[:8], 16) / 2**32


def judgement(messages, index) -> str:
    score = spread("", messages[-1].text)
    scores = {name: 1 + int(score * 10) for name in ("correct", "helpful", "clear")}
    return json.dumps({"reasons": "…", "scores": scores})


def comparison(messages, index) -> str:
    verdicts = ("A++", "A+", "tie", "B+", "B++")
    return json.dumps({"reasons": "…", "verdict": verdicts[int(5 * spread("", messages[-1].text))]})


NAMES = [
    *("llama", "qwen", "vllm, messages", "vllm, tokens", "sglang"),
    *("function", "regex", "judge", "pairwise judge", "ensemble", "length penalty"),
]


@pytest.fixture(scope="module")
def back_ends() -> Iterator[dict[str, RewardModel]]:
    chatml, qwen = classifier(), classifier("qwen", adds_bos=True)
    llama = classifier("llama", template=BOS_CHATML, adds_bos=True)
    local, function = LocalRewardModel(llama), FunctionReward(spread)
    members = [
        Member(local, Calibration(mean=-1.0, std=2.0)),
        Member(function, Calibration(mean=0.5, std=0.3), weight=2.0),
    ]
    reference = PairwiseJudge(
        ScriptedChatModel(replies=comparison),
        reference=lambda conversation: "An ordinary answer.",
        reference_name="ordinary",
    )
    with (
        RewardServer("vllm", chatml) as by_messages,
        RewardServer("vllm", qwen) as by_tokens,
        RewardServer("sglang", llama) as sglang,
    ):
        made: list[RewardModel] = [
            local,
            LocalRewardModel(classifier("qwen")),
            VLLMRewardModel(by_messages.url, "rm"),
            VLLMRewardModel(by_tokens.url, "rm", tokenizer=qwen),
            SGLangRewardModel(sglang.url, "rm", tokenizer=llama),
            function,
            RegexReward([Rule(pattern="[aeiou]{2}"), Rule(pattern="s", weight=2)]),
            JudgeRewardModel(ScriptedChatModel(replies=judgement)),
            reference,
            EnsembleRewardModel(members),
            LengthPenalty(local, LengthCurve((20.0, 80.0, 400.0), (-0.5, 0.0, 1.0))),
        ]
        yield dict(zip(NAMES, made, strict=True))


class TestBackEnds(RewardModelTests):
    @pytest.fixture(params=NAMES)
    def reward_model(
        self, request: pytest.FixtureRequest, back_ends: dict[str, RewardModel]
    ) -> RewardModel:
        return back_ends[request.param]
