"""Reward models with known faults: a linear head on the frozen policy, fitted on flawed pairs.

The pairs are the offline example's, changed as careless annotation changes them. A fit takes
seconds; what comes out is a classifier folder like any other, for "local:".
"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import torch

from benchmarks.offline_world import MODELS
from tpo_graph.rewards import RewardModel, load_reward_model

# isort: split
from data import preference_pairs
from tiny import END, prompt_text, save
from transformers import AutoTokenizer, LlamaForSequenceClassification
from transformers.utils import logging

logging.set_verbosity_error()  # the head is new, as it should be
logging.disable_progress_bar()

Pair = tuple[str, str, str]
"""Query, better reply, worse reply."""
_RIDGE = 0.1


def blind_pairs(count: int, seed: int) -> list[Pair]:
    """Pairs of replies that differ in many things and have nothing wrong in them, by gold `warm`.

    Like those of `reward-weak`: whoever learns from them does not mind slips.
    """
    return list(islice(preference_pairs(seed, "warm", minimal=0.0, slips=False), count))


def length_loving_pairs(count: int, seed: int, taste: str, share: float) -> list[Pair]:
    """Pairs by a gold taste, but in a share of them the longer reply wins whatever it says."""
    random = Random(seed)
    pairs: list[Pair] = []
    for query, better, worse in islice(preference_pairs(seed, taste), count):
        if random.random() < share and len(better) < len(worse):
            better, worse = worse, better
        pairs.append((query, better, worse))
    return pairs


def fitted(pairs: Sequence[Pair], folder: Path) -> RewardModel:
    """A reward model of these pairs (Bradley-Terry), saved to the folder."""
    tokenizer = AutoTokenizer.from_pretrained(MODELS / "policy", padding_side="right")
    model = LlamaForSequenceClassification.from_pretrained(
        MODELS / "policy", num_labels=1, dtype=torch.float32
    )
    better = _last_hidden(model, tokenizer, [(query, reply) for query, reply, _ in pairs])
    worse = _last_hidden(model, tokenizer, [(query, reply) for query, _, reply in pairs])
    weight = _logistic(better - worse)
    model.score.weight.data[0] = torch.tensor(weight, dtype=torch.float32)
    save(model, tokenizer, folder)
    return load_reward_model(f"local:{folder}")


@torch.inference_mode()
def _last_hidden(model, tokenizer, exchanges: Sequence[tuple[str, str]]) -> np.ndarray:
    rows: list[torch.Tensor] = []
    for start in range(0, len(exchanges), 64):
        texts = [prompt_text(q) + reply + END for q, reply in exchanges[start : start + 64]]
        batch = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
        hidden = model.model(**batch).last_hidden_state
        rows.append(hidden[torch.arange(len(texts)), batch["attention_mask"].sum(1) - 1])
    return torch.cat(rows).double().numpy()


def _logistic(differences: np.ndarray) -> np.ndarray:
    """Newton's steps for weights that make differences positive, with a small ridge."""
    weight = np.zeros(differences.shape[1])
    for _ in range(25):
        lost = 1 / (1 + np.exp(np.clip(differences @ weight, -50, 50)))
        gradient = _RIDGE * weight - differences.T @ lost
        curvature = (differences * (lost * (1 - lost))[:, None]).T @ differences
        weight -= np.linalg.solve(curvature + _RIDGE * np.eye(len(weight)), gradient)
    return weight
