"""`check_reward_model`: what is right passes, and each fault is called by its name."""

import hashlib

import pytest

from tests.reward_server import RewardServer
from tests.tiny_models import BOS_CHATML, classifier
from tpo_graph.check import Finding, check_setup
from tpo_graph.check.probes import load_probes
from tpo_graph.rewards import FunctionReward, LocalRewardModel
from tpo_graph.rewards.vllm import VLLMRewardModel

PREFERS = "prefers the obviously better answer"
RAW = "scores are raw"
REPEATS = "one by one as in a batch"
BOS = "one BOS token"
EQUALS = "equals the model it is checked against"

PAIRS = load_probes().pairs
BETTER = {pair.better for pair in PAIRS}


async def check(reward_model, **setup) -> dict[str, Finding]:
    found = [f async for f in check_setup(reward_model=reward_model, **setup)]
    assert {finding.part for finding in found} == {"prompts", "reward model"}
    return {finding.name: finding for finding in found if finding.part == "reward model"}


def noise(text: str) -> float:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


def knows(query: str, response: str) -> float:
    """Tells good from bad, as a trained model would, with some variety."""
    return (4.0 if response in BETTER else -4.0) + noise(response)


async def test_a_good_one_passes_everything():
    found = await check(knows, against=FunctionReward(knows))
    assert {name: finding.status for name, finding in found.items()} == {
        "loads and scores": "ok",
        PREFERS: "ok",
        RAW: "ok",
        REPEATS: "ok",
        BOS: "skip",
        EQUALS: "ok",
    }
    assert "12 of 12" in found[PREFERS].detail


@pytest.mark.parametrize(("wrong", "status"), [(1, "ok"), (3, "warn"), (4, "fail"), (12, "fail")])
async def test_how_often_the_better_answer_must_win(wrong, status):
    turned = {pair.question for pair in PAIRS[:wrong]}
    found = await check(lambda q, r: knows(q, r) * (-1 if q in turned else 1))
    assert found[PREFERS].status == status
    assert f"{12 - wrong} of 12" in found[PREFERS].detail
    assert repr(PAIRS[0].question) in found[PREFERS].detail


async def test_squashed_scores_are_noticed():
    found = await check(lambda q, r: 1 / (1 + 2.718 ** -knows(q, r)))
    assert found[RAW].status == "warn"
    assert "sigmoid" in found[RAW].detail


async def test_one_score_for_everything_fails():
    found = await check(lambda q, r: 1.0)
    assert found[RAW].status == "fail"
    assert "softmax" in found[RAW].detail


@pytest.mark.parametrize(("shift", "status"), [(1e-5, "ok"), (0.1, "warn"), (3.0, "fail")])
async def test_scores_that_depend_on_the_batch(shift, status):
    class Batchy:
        name = "batchy"

        async def score(self, conversation, responses):
            return [knows("", r) + shift * (len(responses) == 1) for r in responses]

    assert (await check(Batchy()))[REPEATS].status == status


async def test_what_cannot_be_loaded_or_breaks_is_one_finding():
    found = await check("local:/no/such/model")
    assert [f.status for f in found.values()] == ["fail"]
    assert "/no/such/model" in found["loads and scores"].detail
    found = await check(lambda q, r: float("nan"))
    assert "nan" in found["loads and scores"].detail


async def test_bos_is_counted_for_local_models_and_tokenizers():
    folder = classifier(template=BOS_CHATML, adds_bos=True)
    assert (await check(f"local:{folder}"))[BOS].detail == "exactly one"
    assert "use none" in (await check(f"local:{classifier()}"))[BOS].detail
    doubled = classifier(template="{{ bos_token }}" + BOS_CHATML)
    assert (await check(f"local:{doubled}"))[BOS].status == "fail"
    with RewardServer("vllm", folder) as server:
        found = await check(VLLMRewardModel(server.url, "rm", tokenizer=folder))
        assert found[BOS].detail == "exactly one"


async def test_remote_against_local():
    folder = classifier()
    local = LocalRewardModel(folder)
    with RewardServer("vllm", folder) as server:
        remote = f"vllm:{server.url}#rm"
        assert (await check(remote, against=f"local:{folder}"))[EQUALS].status == "ok"
        other = await check(remote, against=f"local:{classifier(seed=1)}")
        assert other[EQUALS].status == "fail"
        assert "other weights" in other[EQUALS].detail

    class Squashed:
        name = "squashed"

        async def score(self, conversation, responses):
            scores = await local.score(conversation, responses)
            return [1 / (1 + 2.718281828**-score) for score in scores]

    found = await check(Squashed(), against=local)
    assert found[EQUALS].status == "fail"
    assert "sigmoid of the other" in found[EQUALS].detail


async def test_a_broken_model_to_compare_with_is_a_finding():
    found = await check(knows, against="local:/no/such/model")
    assert found["scores again"].status == "fail"


def test_the_pairs_are_well_formed():
    assert len({pair.question for pair in PAIRS}) == len(PAIRS) == 12
    assert all(pair.better != pair.worse for pair in PAIRS)
