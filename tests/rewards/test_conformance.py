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


@pytest.fixture(scope="module")
def llama() -> RewardModel:
    return LocalRewardModel(classifier("llama", template=BOS_CHATML, adds_bos=True))


@pytest.fixture(scope="module")
def qwen() -> RewardModel:
    return LocalRewardModel(classifier("qwen"))


@pytest.fixture(scope="module")
def vllm_messages() -> Iterator[RewardModel]:
    with RewardServer("vllm", classifier()) as server:
        yield VLLMRewardModel(server.url, "rm")


@pytest.fixture(scope="module")
def vllm_tokens() -> Iterator[RewardModel]:
    folder = classifier("qwen", adds_bos=True)
    with RewardServer("vllm", folder) as server:
        yield VLLMRewardModel(server.url, "rm", tokenizer=folder)


@pytest.fixture(scope="module")
def sglang() -> Iterator[RewardModel]:
    folder = classifier("llama", template=BOS_CHATML, adds_bos=True)
    with RewardServer("sglang", folder) as server:
        yield SGLangRewardModel(server.url, "rm", tokenizer=folder)


class TestLocalLlama(RewardModelTests):
    @pytest.fixture
    def reward_model(self, llama: RewardModel) -> RewardModel:
        return llama


class TestLocalQwen(RewardModelTests):
    @pytest.fixture
    def reward_model(self, qwen: RewardModel) -> RewardModel:
        return qwen


class TestFunction(RewardModelTests):
    @pytest.fixture
    def reward_model(self) -> RewardModel:
        return FunctionReward(spread)


class TestVLLMMessages(RewardModelTests):
    @pytest.fixture
    def reward_model(self, vllm_messages: RewardModel) -> RewardModel:
        return vllm_messages


class TestVLLMTokens(RewardModelTests):
    @pytest.fixture
    def reward_model(self, vllm_tokens: RewardModel) -> RewardModel:
        return vllm_tokens


class TestSGLang(RewardModelTests):
    @pytest.fixture
    def reward_model(self, sglang: RewardModel) -> RewardModel:
        return sglang


class TestJudge(RewardModelTests):
    @pytest.fixture
    def reward_model(self) -> RewardModel:
        return JudgeRewardModel(ScriptedChatModel(replies=judgement))


class TestPairwiseJudge(RewardModelTests):
    @pytest.fixture
    def reward_model(self) -> RewardModel:
        return PairwiseJudge(
            ScriptedChatModel(replies=comparison),
            reference=lambda conversation: "An ordinary answer.",
            reference_name="ordinary",
        )


class TestEnsemble(RewardModelTests):
    @pytest.fixture
    def reward_model(self, llama: RewardModel) -> RewardModel:
        return EnsembleRewardModel(
            [
                Member(llama, Calibration(mean=-1.0, std=2.0)),
                Member(FunctionReward(spread), Calibration(mean=0.5, std=0.3), weight=2.0),
            ]
        )


class TestLengthPenalty(RewardModelTests):
    @pytest.fixture
    def reward_model(self, llama: RewardModel) -> RewardModel:
        return LengthPenalty(llama, LengthCurve((20.0, 80.0, 400.0), (-0.5, 0.0, 1.0)))
