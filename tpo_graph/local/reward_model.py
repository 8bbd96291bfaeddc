"""`LocalRewardModel`: a one-label sequence classifier in this process, through transformers."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError, RewardInputError
from tpo_graph.local import weights
from tpo_graph.local.batching import Scorer, packed_batch, padded_batch
from tpo_graph.local.identity import fingerprint
from tpo_graph.local.packed import PackedForward, can_pack
from tpo_graph.local.padded import PaddedForward
from tpo_graph.local.template import ChatTemplate
from tpo_graph.local.worker import Worker
from tpo_graph.usage import no_usage, spend

_SHARED_FROM = 32  # tokens: a shorter prefix is sooner computed again than set apart


class LocalRewardModel:
    """Scores by the raw logit of any one-label classifier that has a chat template.

    The conversation with the response as its last turn is written by the chat template, begins
    with one BOS token (if tokenizer or template use one). Calls made at the same time, from any
    task, event loop or thread, are scored together in batches, and what the responses to one
    conversation have in common is computed once per batch. In float32 scores equal those of
    one-by-one scoring within 1e-5, whatever the batch; in bfloat16 the batch moves them by some
    1e-2, enough to swap close candidates.

    Args:
        source: folder that holds model and tokenizer, or hub id.
        trust_remote_code: run Python code that comes with the model.
        dtype: torch dtype name; None is float32 on the CPU, and that of the weights elsewhere.
        device: torch device; None takes an accelerator if there is one, else the CPU.
        batch_tokens: most tokens of one batch, padding included. A row longer than that is a batch
            of its own; a conversation may stand before the responses that share it.
        max_length: longest input in tokens, when the model was trained for less than it can take.

    Raises:
        ConfigurationError: no such model, no safetensors, not one label, no trained head, no chat
            template, or torch is missing.
    """

    def __init__(
        self,
        source: str,
        *,
        trust_remote_code: bool = False,
        dtype: str | None = None,
        device: str | None = None,
        batch_tokens: int = 8192,
        max_length: int | None = None,
    ) -> None:
        source = weights.resolve(source)
        options = weights.Options(trust_remote_code, dtype, device)
        if dtype is None and options.where() == "cpu":
            options = options._replace(dtype="float32")
        labels = weights.load_config(source, options).num_labels
        if labels != 1:
            raise ConfigurationError(
                f"{source!r} has {labels} labels: a reward model has one. "
                "Name a sequence classifier that was trained on preferences."
            )
        loaded = weights.load(source, "AutoModelForSequenceClassification", options)
        self._source = source
        self._template = ChatTemplate(loaded.tokenizer, source, RewardInputError)
        limits = [limit for limit in (max_length, loaded.max_positions) if limit is not None]
        self._max_length = min(limits, default=None)
        self.name = f"local:{source}@{fingerprint(loaded.model, self._template.text)}"
        self._tokenizer = Worker(f"tokenizer {source}")
        self._scorer = _scorer(f"reward model {source}", loaded.model, batch_tokens)

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`.

        Raises:
            RewardInputError: a response is too long together with the conversation, or the chat
                template refuses the conversation.
        """
        turns, texts = list(conversation), list(responses)
        unique = list(dict.fromkeys(texts))
        if not unique:
            return []
        scores: Future[list[float]] = Future()
        try:
            tokens = await self._tokenizer.arun(lambda _: self._enqueue(turns, unique, scores))
            by_text = dict(zip(unique, await asyncio.wrap_future(scores), strict=True))
            spend({**no_usage(), "prompt_tokens": tokens})
        finally:
            scores.cancel()  # if the caller gave up: once there, scores cannot be cancelled
        return [by_text[text] for text in texts]

    def _enqueue(
        self, turns: list[Turn], responses: list[str], scores: "Future[list[float]]"
    ) -> int:
        """How many tokens were put into the queue, what the responses share in each of them."""
        rows: list[list[int]] = []
        for response in responses:
            if scores.cancelled():
                return 0
            rows.append(self._encode(turns, response))
        self._scorer.put(rows, _shared(rows), scores)
        return sum(map(len, rows))

    def _encode(self, turns: list[Turn], response: str) -> list[int]:
        answered = [*turns, Turn(role="assistant", content=response)]
        ids = self._template.encode(answered, reply=False, one_bos=True)
        if self._max_length is not None and len(ids) > self._max_length:
            over = len(ids) - self._max_length
            raise RewardInputError(
                f"the conversation with the response {response[:60]!r}... has {len(ids)} tokens, "
                f"{over} more than {self._source!r} can read ({self._max_length}). Lower "
                "max_tokens, shorten the conversation, or use a reward model with a longer context."
            )
        return ids


def _shared(rows: Sequence[list[int]]) -> int:
    # Tokens of whole rows are compared: text cut at the response would be tokenized otherwise.
    pairs = zip(min(rows), max(rows), strict=False)  # in between, all begin as these two do
    alike = next((i for i, (a, b) in enumerate(pairs) if a != b), len(min(rows)))
    shared = min(alike, min(map(len, rows)) - 1)
    return shared if shared >= _SHARED_FROM else 0


def _scorer(name: str, model: Any, batch_tokens: int) -> Scorer:
    rotary: Any = getattr(model.config.get_text_config(), "rope_parameters", None)
    if rotary and rotary.get("rope_type") == "longrope":
        batch_tokens = 1  # how it turns depends on the longest row of a batch: one row in each
    if can_pack(model):
        return Scorer(name, PackedForward(model), packed_batch, batch_tokens)
    return Scorer(name, PaddedForward(model), padded_batch, batch_tokens)
