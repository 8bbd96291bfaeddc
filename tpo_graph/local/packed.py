"""Packed forward passes: rows end to end in one sequence, a shared prefix standing there once.

A decoder layer treats every token alike except in attention. So the rows of a batch, whatever
their lengths, go through the model as one sequence without padding, and only attention is told
which tokens belong together: a prefix sees itself, what follows it sees the prefix and itself.
The scores are those of one-by-one scoring, up to rounding.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from tpo_graph.local.batching import Row

_NAME = "tpo_graph_packed"
FAMILIES = frozenset(
    {"gemma", "llama", "mistral", "mixtral", "olmo2", "phi3"}
    | {"qwen2", "qwen3", "qwen3_moe", "smollm3"}
)
"""Model types known to mix tokens by attention alone, through transformers' attention interface."""


class Span(NamedTuple):
    """Consecutive tokens of a packed sequence that attend causally to one another."""

    start: int
    end: int
    prefix: slice | None
    """Tokens before them, attended to by all of them."""


class Layout(NamedTuple):
    """Rows as one sequence."""

    ids: list[int]
    positions: list[int]
    """Position of each token in its own row."""
    spans: list[Span]
    last: list[int]
    """Per row, where its last token stands."""


def layout(rows: Sequence[Row]) -> Layout:
    """One sequence of all rows, those of one group next to each other after their shared prefix."""
    made = Layout([], [], [], [0] * len(rows))
    groups: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row.group, []).append(i)

    def add(ids: Sequence[int], position: int, prefix: slice | None) -> None:
        start = len(made.ids)
        made.ids.extend(ids)
        made.positions.extend(range(position, position + len(ids)))
        made.spans.append(Span(start, len(made.ids), prefix))

    for members in groups.values():
        shared = rows[members[0]].shared if len(members) > 1 else 0
        prefix = None
        if shared:
            prefix = slice(len(made.ids), len(made.ids) + shared)
            add(rows[members[0]].ids[:shared], 0, None)
        for i in members:
            add(rows[i].ids[shared:], shared, prefix)
            made.last[i] = len(made.ids) - 1
    return made


def can_pack(model: Any) -> bool:
    """Whether tokens of this classifier meet in full causal attention and nowhere else."""
    config = model.config
    return (
        config.model_type in FAMILIES
        and not getattr(config, "sliding_window", None)
        and hasattr(model, "score")
        and hasattr(model, model.base_model_prefix)
    )


class PackedForward:
    """Scores packed batches by a sequence classifier that `can_pack`; its attention is replaced."""

    def __init__(self, model: Any) -> None:
        from transformers import AttentionInterface

        AttentionInterface.register(_NAME, _attention)
        model.set_attn_implementation(_NAME)
        self._model = model

    def __call__(self, rows: Sequence[Row]) -> list[float]:
        """Raw logit per row."""
        import torch

        packed = layout(rows)
        device, dtype = self._model.device, self._model.dtype
        with torch.inference_mode():
            hidden = getattr(self._model, self._model.base_model_prefix)(
                input_ids=torch.tensor([packed.ids], device=device),
                position_ids=torch.tensor([packed.positions], device=device),
                use_cache=False,
                spans=_masked(packed.spans, dtype, device),
            ).last_hidden_state
            last = hidden[0, torch.tensor(packed.last, device=device)]
            return self._model.score(last)[:, 0].float().tolist()


def _masked(spans: Sequence[Span], dtype: Any, device: Any) -> list[tuple[Span, Any]]:
    """Each span with the mask of its attention to prefix and self; one tensor serves a group."""
    import torch

    longest: dict[int, int] = {}
    for span in spans:
        if span.prefix:
            start = span.prefix.start
            longest[start] = max(longest.get(start, 0), span.end - span.start)
    masks: dict[int, Any] = {}
    masked: list[tuple[Span, Any]] = []
    for span in spans:
        if not span.prefix:
            masked.append((span, None))
            continue
        before, length = span.prefix.stop - span.prefix.start, span.end - span.start
        start, most = span.prefix.start, longest[span.prefix.start]
        if start not in masks:
            hidden = torch.full((most, before + most), -torch.inf, dtype=dtype, device=device)
            masks[start] = hidden.triu(before + 1)
        masked.append((span, masks[start][None, None, :length, : before + length]))
    return masked


def _attention(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    *,
    spans: Sequence[tuple[Span, Any]],
    scaling: float,
    **_: Any,
) -> tuple[Any, None]:
    """Attention as transformers asks for it: heads before tokens in, tokens before heads out."""
    import torch
    from transformers import AttentionInterface

    known: Any = AttentionInterface()
    plain = known["sdpa"]
    parts: list[Any] = []
    for span, mask in spans:
        own = slice(span.start, span.end)
        k, v = key[:, :, own], value[:, :, own]
        if span.prefix:
            k = torch.cat([key[:, :, span.prefix], k], dim=2)
            v = torch.cat([value[:, :, span.prefix], v], dim=2)
        part = plain(module, query[:, :, own], k, v, mask, scaling=scaling, is_causal=True)
        parts.append(part[0])
    return torch.cat(parts, dim=1), None
