"""Packed rows against the same rows one by one, in every family that is packed."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tpo_graph.local.batching import Row
from tpo_graph.local.packed import FAMILIES, PackedForward, can_pack, layout

VOCABULARY = 50
ids = st.lists(st.integers(0, VOCABULARY - 1), max_size=12)
conversations = st.lists(
    st.tuples(ids, st.lists(ids.filter(len), min_size=1, max_size=4)), min_size=1, max_size=4
)


def rows_of(given: list[tuple[list[int], list[list[int]]]]) -> list[Row]:
    return [
        Row(prefix + own, len(prefix), group)
        for group, (prefix, owns) in enumerate(given)
        for own in owns
    ]


def model_of(family: str, **extra: Any) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "max_position_embeddings": 512,
        "initializer_range": 0.1,
        "sliding_window": None,
        "num_labels": 1,
        "pad_token_id": None,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(family, **sizes | extra)
        return AutoModelForSequenceClassification.from_config(config).eval()


@cache
def pair(family: str) -> tuple[Any, PackedForward]:
    """The model as transformers runs it, and the same weights packed."""
    return model_of(family), PackedForward(model_of(family))


def one_by_one(model: Any, rows: list[Row]) -> list[float]:
    import torch

    with torch.inference_mode():
        return [model(torch.tensor([row.ids])).logits[0, 0].item() for row in rows]


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_scores_as_one_by_one(family):
    plain, packed = pair(family)
    assert can_pack(plain)
    prefixes = [list(range(20)), [], list(range(40, 10, -1))]
    owns = [[[3] * 5, [7], list(range(9))], [list(range(30)), [2, 1]], [[9]]]
    rows = rows_of(list(zip(prefixes, owns, strict=True)))
    rows = [*rows[1::2], *rows[::2]]  # as they may come: rows of one conversation not in a row
    scores = packed(rows)
    assert scores == pytest.approx(one_by_one(plain, rows), abs=1e-5)
    assert len({round(score, 4) for score in scores}) == len(rows)


@settings(max_examples=40)
@given(conversations)
def test_any_batch_scores_as_one_by_one(given):
    plain, packed = pair("llama")
    rows = rows_of(given)
    assert packed(rows) == pytest.approx(one_by_one(plain, rows), abs=1e-5)


@given(conversations)
def test_a_layout_holds_every_row_at_its_own_positions(given):
    rows = rows_of(given)
    made = layout(rows)
    ends = {span.end - 1: span for span in made.spans}
    for row, last in zip(rows, made.last, strict=True):
        span = ends[last]
        seen = [*range(*(span.prefix or slice(0)).indices(len(made.ids)))]
        seen += range(span.start, span.end)
        assert [made.ids[i] for i in seen] == row.ids
        assert [made.positions[i] for i in seen] == list(range(len(row.ids)))
    prefixes = {row.group: row.shared for row in rows}
    own = sum(len(row.ids) - row.shared for row in rows)
    assert len(made.ids) == sum(prefixes.values()) + own


def test_models_that_look_at_their_tokens_otherwise_are_not_packed():
    assert not can_pack(model_of("mistral", sliding_window=8))
    assert not can_pack(model_of("qwen2", use_sliding_window=True, sliding_window=8))
    assert not can_pack(model_of("gemma2", sliding_window=8))
    assert not can_pack(model_of("bert", pad_token_id=0))
