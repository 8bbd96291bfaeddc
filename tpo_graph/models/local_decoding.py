"""Sample n replies from one prompt with a transformers causal LM: one prefill, then all together.

Imports torch, so import it where a model is loaded.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from tpo_graph.errors import PolicyError
from tpo_graph.models.local_reply import Reply

_LIKELY = 1024  # sorting this many of a large vocabulary nearly always covers top_p


@dataclass(frozen=True)
class Sampling:
    """How to draw tokens."""

    temperature: float | None
    """None or 0 takes the likeliest token."""
    top_p: float | None
    max_tokens: int
    seed: int | None


@torch.inference_mode()
def decode(
    model: Any, prompt: list[int], replies: list[Reply], sampling: Sampling, ends: frozenset[int]
) -> Iterator[None]:
    """Extend every unfinished reply by one token per step, until all have ended.

    Equal arguments and seed draw equal tokens, whatever else the process does: the numbers come
    from a generator of this call's own, n of them in every step.

    Args:
        model: causal LM in evaluation mode.
        prompt: token ids; computed once, at batch 1.
        replies: n empty replies, filled in place.
        ends: ids that end a reply.

    Raises:
        PolicyError: the model's logits are not numbers.
    """
    generator = torch.Generator()
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed)
    output = model(
        input_ids=torch.tensor([prompt], device=model.device), use_cache=True, logits_to_keep=1
    )
    cache = output.past_key_values
    # The one operation on rows that attention and recurrent layers both have.
    cache.reorder_cache(torch.zeros(len(replies), dtype=torch.long, device=model.device))
    logits = output.logits[:, -1].expand(len(replies), -1)
    active = list(range(len(replies)))
    while True:
        uniform = torch.rand(len(replies), generator=generator, dtype=torch.float64)[active]
        tokens = draw(logits.float().cpu(), uniform, sampling)
        for row, token in zip(active, tokens, strict=True):
            replies[row].extend(int(token), sampling.max_tokens, ends)
        yield
        going = [i for i, row in enumerate(active) if replies[row].finish is None]
        if not going:
            return
        if len(going) < len(active):
            cache.reorder_cache(torch.tensor(going, device=model.device))
            tokens = tokens[going]
            active = [active[i] for i in going]
        output = model(
            input_ids=tokens[:, None].to(model.device), past_key_values=cache, use_cache=True
        )
        cache, logits = output.past_key_values, output.logits[:, -1]


def draw(logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """One token id per row.

    Args:
        logits: float32, (rows, vocabulary).
        uniform: float64 in [0, 1), (rows,): where in the cumulative distribution to look.

    Raises:
        PolicyError: a logit is NaN.
    """
    if logits.isnan().any():
        raise PolicyError("the model's logits are NaN. Load it with dtype='float32'.")
    if not sampling.temperature:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.double() / sampling.temperature, -1)
    if sampling.top_p is None or sampling.top_p >= 1:
        return _pick(probabilities, uniform)
    top, ids = probabilities.topk(min(_LIKELY, probabilities.shape[-1]))
    if bool((top.sum(-1) < sampling.top_p).any()):
        top, ids = probabilities.sort(descending=True, stable=True)
    outside = top.cumsum(-1) - top >= sampling.top_p
    choice = _pick(top.masked_fill(outside, 0), uniform)
    return ids.gather(-1, choice[:, None])[:, 0]


def _pick(weights: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    cumulative = weights.cumsum(-1)
    target = uniform[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=weights.shape[-1] - 1)
