"""Preference pairs of stored runs: what they are made of, and that TRL's trainers take them."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from tpo_graph import optimize
from tpo_graph.batch.job import run_batch
from tpo_graph.candidates import Candidate
from tpo_graph.cli import tpo
from tpo_graph.rows import make_rows
from tpo_graph.store.preferences import preferences
from tpo_graph.store.trajectory import Trajectory
from tpo_graph.testing import ScriptedChatModel, prefer_longer

SAMPLES = ["a medium one", "the longest of them all", "short", "also a medium"]


def trajectory(*candidates: tuple[str, float]) -> Trajectory:
    run: Any = {"conversation": [], "reward_model": "r", "run_id": "x"}
    entries: Any = [
        Candidate(iteration=n // 3, position=n % 3, reward=reward, response=text)
        for n, (text, reward) in enumerate(candidates)
    ]
    return Trajectory(run=run, candidates=entries, steps=[], usage={})


candidates = st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(-5, 5, width=16)), max_size=9)


@given(candidates, st.integers(1, 40), st.floats(0, 4))
def test_pairs_differ_by_the_margin_and_the_widest_come_first(
    found: list[tuple[str, float]], most: int, margin: float
) -> None:
    run = trajectory(*found)
    every = preferences(run, pairs=None, min_margin=margin)
    margins = [pair["score_margin"] for pair in every]
    assert margins == sorted(margins, reverse=True)
    assert all(m > 0 and m >= margin for m in margins)
    texts = [(pair["chosen"][0]["content"], pair["rejected"][0]["content"]) for pair in every]
    assert all(chosen != rejected for chosen, rejected in texts)
    assert len({frozenset(pair) for pair in texts}) == len(texts)
    assert preferences(run, pairs=most, min_margin=margin) == every[:most]
    rewards: dict[str, float] = {}
    for text, reward in found:
        rewards.setdefault(text, reward)
    wide = [abs(x - y) for i, x in enumerate(rewards.values()) for y in [*rewards.values()][:i]]
    assert len(every) == sum(m > 0 and m >= margin for m in wide)


def test_a_text_that_was_cut_is_in_no_pair_unless_it_is_wanted() -> None:
    run = trajectory(("cut", 9.0), ("whole", 5.0), ("worse", 1.0))
    entries: list[Any] = run["candidates"]
    entries[0]["finish_reason"] = "length"
    (pair,) = preferences(run)
    assert pair["chosen"][0]["content"] == "whole"
    assert preferences(run, include_cut=True)[0]["chosen"][0]["content"] == "cut"


def export(database: str, *arguments: str) -> Result:
    given = ["runs", "export", "--format", "preferences", "--database", database, *arguments]
    return CliRunner().invoke(tpo, given)


def pairs(database: str, *arguments: str) -> list[dict[str, Any]]:
    result = export(database, *arguments)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def shortest(query: str, response: str) -> float:
    """Another reward model."""
    return -float(len(response))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('pairs') / 'tpo.db'}"
    options: dict[str, Any] = {"database": url, "depth": 0, "width": 4}
    model = ScriptedChatModel(replies=SAMPLES)
    run_batch(
        make_rows(["in the batch", "there, too"]),
        name="b",
        model=model,
        reward_model=prefer_longer,
        **options,
    )
    optimize("alone", model=model, reward_model=shortest, **options)
    with pytest.raises(Exception, match="division by zero"):
        optimize("failed", model=model, reward_model=lambda q, r: 1 / 0, run_id="broken", **options)
    return url


def test_export_filters_and_warns_when_rewards_cannot_be_compared(database: str) -> None:
    everything = export(database)
    assert len(everything.stdout.splitlines()) == 3
    assert "several reward models" in everything.stderr
    ours = pairs(database, "--batch", "b")
    assert {pair["prompt"][0]["content"] for pair in ours} == {"in the batch", "there, too"}
    assert "several" not in export(database, "--batch", "b").stderr
    other = pairs(
        database,
        "--reward-model",
        next(
            pair["reward_model"]
            for pair in map(json.loads, everything.stdout.splitlines())
            if pair["prompt"][0]["content"] == "alone"
        ),
    )
    assert [pair["chosen"][0]["content"] for pair in other] == ["short"]
    assert pairs(database, "--until", "2020-01-01") == []
    assert len(pairs(database, "--since", "2020-01-01T00:00:00")) == 3
    assert pairs(database, "--status", "failed") == []
    # 23, 13, 12 and 5 characters: 18, 11, 10, 8, 7 and 1 apart.
    margins = [pair["score_margin"] for pair in pairs(database, "--batch", "b", "--pairs", "all")]
    assert margins == [18, 11, 10, 8, 7, 1] * 2
    assert len(pairs(database, "--batch", "b", "--pairs", "3", "--min-margin", "10.5")) == 4
    assert export(database, "--pairs", "none").exit_code != 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_trl_trainers_take_the_pairs(
    database: str, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trl: Any = pytest.importorskip("trl", reason="pip install 'tpo-graph[test-slow]'")
    datasets: Any = pytest.importorskip("datasets")
    transformers: Any = pytest.importorskip("transformers")
    monkeypatch.setenv("WANDB_DISABLED", "true")
    file = tmp_path / "pairs.jsonl"
    assert export(database, "--batch", "b", "--pairs", "all", "-o", str(file)).exit_code == 0
    data = datasets.load_dataset(
        "json", data_files=str(file), split="train", cache_dir=str(tmp_path / "c")
    )
    models = root / "examples/offline/models"
    policy = models / "policy"
    tokenizer = transformers.AutoTokenizer.from_pretrained(policy)
    options: dict[str, Any] = {
        "output_dir": str(tmp_path / "out"),
        "max_steps": 1,
        "per_device_train_batch_size": 2,
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
    }
    dpo = trl.DPOTrainer(
        model=transformers.AutoModelForCausalLM.from_pretrained(policy),
        args=trl.DPOConfig(**options),
        train_dataset=data,
        processing_class=tokenizer,
    )
    prepared = dpo.train_dataset[0]
    assert "longest of them" in tokenizer.decode(prepared["chosen_ids"])
    assert "short" in tokenizer.decode(prepared["rejected_ids"])
    assert dpo.train().global_step == 1
    reward = transformers.AutoModelForSequenceClassification.from_pretrained(policy, num_labels=1)
    trainer = trl.RewardTrainer(
        model=reward,
        args=trl.RewardConfig(**options),
        train_dataset=data,
        processing_class=tokenizer,
    )
    assert trainer.train().global_step == 1
