"""Checks of a reward model: is it loaded right, and does it tell good from bad?"""

import math
import statistics
from collections.abc import AsyncIterator, Sequence
from functools import partial

from tpo_graph.check.finding import Finding, Status
from tpo_graph.check.probes import Pair, Probes
from tpo_graph.errors import TPOError
from tpo_graph.local.encoder import Encoder
from tpo_graph.rewards import (
    LocalRewardModel,
    RewardFunction,
    RewardModel,
    as_reward_model,
    checked_scores,
)

_finding = partial(Finding, "reward model")

Given = str | RewardModel | RewardFunction
"""A reward model as `create_tpo_graph` takes it."""

_EXACT, _CLOSE = 1e-3, 0.05
"""Differences as parts of the scores' spread: noise of float32, and of bfloat16."""


async def check_reward_model(
    given: Given, probes: Probes, against: Given | None = None
) -> AsyncIterator[Finding]:
    """Findings about a reward model, as they are made; `against` is another that must give the same
    scores, such as the local one of a remote."""
    pairs = probes.pairs
    try:
        model = as_reward_model(given)
        scores = await _score_pairs(model, pairs)
    except TPOError as error:
        yield _finding("loads and scores", "fail", str(error))
        return
    yield _finding("loads and scores", "ok", model.name)
    yield _prefers(scores, pairs)
    yield _scale(scores, bounded=getattr(model, "bounded", False))
    spread = statistics.pstdev([score for pair in scores for score in pair])
    if spread == 0:
        return
    try:
        yield await _repeatable(model, scores, spread, pairs)
        yield await _one_bos(given, model, pairs[0])
        if against is not None:
            yield _equals(scores, await _score_pairs(as_reward_model(against), pairs), spread)
    except TPOError as error:
        yield _finding("scores again", "fail", str(error))


async def _score_pairs(model: RewardModel, pairs: Sequence[Pair]) -> list[list[float]]:
    return [list(await checked_scores(model, p.conversation, [p.better, p.worse])) for p in pairs]


def _prefers(scores: Sequence[Sequence[float]], pairs: Sequence[Pair]) -> Finding:
    wrong = [pair for pair, (good, bad) in zip(pairs, scores, strict=True) if good <= bad]
    right = len(pairs) - len(wrong)
    share = len(wrong) / len(pairs)
    status: Status = "ok" if share <= 1 / 12 else "warn" if share <= 1 / 4 else "fail"
    detail = f"in {right} of {len(pairs)} pairs"
    if wrong:
        detail += f"; not in {wrong[0].question!r}"
    if status == "fail":
        detail += (
            ". It does not behave like a reward model here: wrong chat template or head, or these "
            "pairs are foreign to it (--probes FILE)"
        )
    return _finding("prefers the obviously better answer", status, detail)


def _scale(scores: Sequence[Sequence[float]], bounded: bool) -> Finding:
    flat = [score for pair in scores for score in pair]
    mean, spread = statistics.fmean(flat), statistics.pstdev(flat)
    seen = f"from {min(flat):.3g} to {max(flat):.3g}, mean {mean:.4g}, std {spread:.4g}"
    if spread == 0:
        why = "all scores are the same: a softmax over one label, or a constant"
        return _finding("scores are raw", "fail", f"{why} ({flat[0]:.3g})")
    if min(flat) >= 0 and max(flat) <= 1 and not bounded:  # shares are meant to be
        why = "all between 0 and 1, so probably a sigmoid, which hides differences at its ends"
        return _finding("scores are raw", "warn", f"{seen}: {why}; ask the server for logits")
    return _finding("scores are raw", "ok", seen)


async def _repeatable(
    model: RewardModel,
    scores: Sequence[Sequence[float]],
    spread: float,
    pairs: Sequence[Pair],
) -> Finding:
    """One by one and again, against the batches of two."""
    moved: list[float] = []
    for pair, known in list(zip(pairs, scores, strict=True))[::2]:
        for response, score in zip((pair.better, pair.worse), known, strict=True):
            [single] = await checked_scores(model, pair.conversation, [response])
            moved.append(abs(single - score))
    texts = [text for pair in pairs for text in (pair.better, pair.worse)]
    mixed = await checked_scores(model, pairs[0].conversation, texts)
    moved += [abs(a - b) for a, b in zip(mixed, scores[0], strict=False)]
    part = max(moved) / spread
    status: Status = "ok" if part <= _EXACT else "warn" if part <= _CLOSE else "fail"
    detail = f"differ by up to {max(moved):.2g}, {part:.2%} of the spread"
    if status == "warn":
        detail += ": enough to swap close candidates; float32 would not"
    if status == "fail":
        detail += ": a score must depend on the conversation and the response alone"
    return _finding("one by one as in a batch", status, detail)


async def _one_bos(given: Given, model: RewardModel, pair: Pair) -> Finding:
    encoder: Encoder | None = getattr(model, "encoder", None)
    if isinstance(model, LocalRewardModel) and isinstance(given, str):
        encoder = Encoder(given.removeprefix("local:"))
    if encoder is None:
        detail = "the template is applied elsewhere; compare with --against local:PATH_OR_HUB_ID"
        return _finding("one BOS token", "skip", detail)
    [ids] = await encoder.rows(pair.conversation, [pair.better])
    count = 0 if encoder.bos is None else ids.count(encoder.bos)
    if count > 1:
        return _finding("one BOS token", "fail", f"{count} of them: fix the chat template")
    detail = "exactly one" if count else "tokenizer and template use none"
    return _finding("one BOS token", "ok", detail)


def _equals(
    scores: Sequence[Sequence[float]], others: Sequence[Sequence[float]], spread: float
) -> Finding:
    pairs = [
        (a, b)
        for one, other in zip(scores, others, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    name = "equals the model it is checked against"
    largest = max(abs(a - b) for a, b in pairs)
    part = largest / max(spread, statistics.pstdev([b for _, b in pairs]))
    if part <= _CLOSE:
        return _finding(name, "ok", f"differ by up to {largest:.2g}, {part:.2%} of the spread")
    if all(abs(a - 1 / (1 + math.exp(-b))) < 0.02 for a, b in pairs):
        why = "it returns the sigmoid of the other's scores: ask the server for logits"
    else:
        why = "another template, another BOS, another precision or other weights"
    return _finding(name, "fail", f"differ by up to {largest:.2g}: {why}")
