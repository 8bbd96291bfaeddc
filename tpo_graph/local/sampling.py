"""Sample n replies to one prompt with transformers' `generate`, by public interfaces only.

`generate` is asked for its greedy choice, and a logits processor of ours has chosen already: tokens
are drawn from a generator of the call's own, so that a seeded call repeats whatever else the
process draws. A stopping criterion of ours takes each token to its reply. Imports torch, so import
it where a model is loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
)

from tpo_graph.errors import PolicyError
from tpo_graph.local.reply import Reply

_LIKELY = 1024  # sorting this many of a large vocabulary nearly always covers top_p


@dataclass(frozen=True)
class Sampling:
    """How to draw tokens."""

    temperature: float | None
    """None or 0 takes the likeliest token."""
    top_p: float | None
    max_tokens: int
    seed: int | None


def sample_replies(
    model: Any,
    prompt: list[int],
    replies: list[Reply],
    sampling: Sampling,
    ends: frozenset[int],
    stopped: Callable[[], bool],
) -> None:
    """Extend the replies by one token each per step, until all have ended or `stopped` says so.

    Equal arguments and seed draw equal tokens, n of them in every step: a reply that ends early
    leaves the others as they are. What else the model's generation config sets, such as a
    repetition penalty, holds here as it does in vLLM.

    Raises:
        PolicyError: the model's logits are not numbers.
    """
    generator = torch.Generator()
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed)
    input_ids = torch.tensor([prompt] * len(replies), device=model.device)
    model.generate(
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        generation_config=GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=sampling.max_tokens,
            eos_token_id=sorted(ends) or None,
            pad_token_id=min(ends, default=0),  # what ended rows are filled with; nobody reads it
        ),
        logits_processor=LogitsProcessorList([_Draw(generator, sampling)]),
        stopping_criteria=StoppingCriteriaList(
            [_Extend(replies, sampling.max_tokens, ends, stopped)]
        ),
    )


class _Draw(LogitsProcessor):
    """Leaves each row one token to choose: the one drawn."""

    def __init__(self, generator: torch.Generator, sampling: Sampling) -> None:
        self._generator = generator
        self._sampling = sampling

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        uniform = torch.rand(len(scores), generator=self._generator, dtype=torch.float64)
        tokens = draw(scores.float().cpu(), uniform, self._sampling).to(scores.device)
        only = torch.full_like(scores, -torch.inf)
        return only.scatter(1, tokens[:, None], 0.0)


class _Extend(StoppingCriteria):
    """Gives each unfinished reply its newest token, and says which have ended."""

    def __init__(
        self,
        replies: list[Reply],
        max_tokens: int,
        ends: frozenset[int],
        stopped: Callable[[], bool],
    ) -> None:
        self._replies = replies
        self._max_tokens = max_tokens
        self._ends = ends
        self._stopped = stopped

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        newest: list[int] = input_ids[:, -1].tolist()
        for reply, token in zip(self._replies, newest, strict=True):
            if reply.finish is None:
                reply.extend(token, self._max_tokens, self._ends)
        stopped = self._stopped()
        done = [stopped or reply.finish is not None for reply in self._replies]
        return torch.tensor(done, device=input_ids.device)


def draw(logits: torch.Tensor, uniform: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """One token id per row of float32 logits. The float64 in `uniform`, from 0 to below 1, say
    where in each row's cumulative distribution to look.

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
