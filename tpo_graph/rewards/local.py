"""`LocalRewardModel`: a one-label sequence classifier in this process, through transformers."""

from collections.abc import Iterator, Sequence
from threading import Event
from typing import Any

from tpo_graph import weights
from tpo_graph.chat_template import ChatTemplate
from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError, RewardInputError
from tpo_graph.rewards.identity import fingerprint
from tpo_graph.worker import Worker


class LocalRewardModel:
    """Scores by the raw logit of any one-label classifier that has a chat template.

    The conversation with the response as its last turn is written by the chat template, begins
    with one BOS token (if tokenizer or template use one), and is scored in batches of similar
    lengths. In float32 scores equal those of one-by-one scoring within 1e-4; in bfloat16 the batch
    moves them by some 1e-2, enough to swap close candidates.

    Args:
        source: folder that holds model and tokenizer, or hub id.
        trust_remote_code: run Python code that comes with the model.
        dtype: torch dtype name; None is float32 on the CPU, and that of the weights elsewhere.
        device: torch device; None takes an accelerator if there is one, else the CPU.
        batch_tokens: most tokens of one batch, padding included.
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
        self._model = loaded.model
        self._template = ChatTemplate(loaded.tokenizer, source, RewardInputError)
        limits = [limit for limit in (max_length, loaded.max_positions) if limit is not None]
        self._max_length = min(limits, default=None)
        self._batch_tokens = batch_tokens
        self._masked = not _causal(loaded.model)
        self._worker = Worker(f"reward model {source}")
        self.name = f"local:{source}@{fingerprint(loaded.model, self._template.text)}"

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`.

        Raises:
            RewardInputError: a response is too long together with the conversation, or the chat
                template refuses the conversation.
        """
        turns, texts = list(conversation), list(responses)
        return await self._worker.arun(lambda cancelled: self._score(turns, texts, cancelled))

    def _score(self, turns: list[Turn], responses: list[str], cancelled: Event) -> list[float]:
        unique = list(dict.fromkeys(responses))
        rows = [self._encode(turns, response) for response in unique]
        scores: dict[str, float] = {}
        for batch in batches([len(row) for row in rows], self._batch_tokens):
            if cancelled.is_set():
                break
            values = self._forward([rows[i] for i in batch])
            scores |= zip((unique[i] for i in batch), values, strict=True)
        return [scores[response] for response in responses if response in scores]

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

    def _forward(self, rows: list[list[int]]) -> list[float]:
        """Raw logits of token rows, in one pass.

        Rows are padded on the right. Under causal attention no real token sees the padding, so it
        needs no mask, which keeps the fast attention path.
        """
        import torch

        longest = max(map(len, rows))
        pad = self._padding(rows)
        if pad is None and len(rows) > 1:
            return [score for row in rows for score in self._forward([row])]
        config = self._model.config
        # The classifier reads the last token that is not padding: any id absent from the rows is a
        # safe one, whereas the tokenizer's own may be the end token of every row.
        config.pad_token_id = config.get_text_config().pad_token_id = pad
        padded = [row + [pad or 0] * (longest - len(row)) for row in rows]
        inputs: dict[str, Any] = {"input_ids": torch.tensor(padded, device=self._model.device)}
        if self._masked:
            lengths = torch.tensor([len(row) for row in rows])
            mask = torch.arange(longest)[None] < lengths[:, None]
            inputs["attention_mask"] = mask.to(self._model.device, torch.long)
        with torch.inference_mode():
            return self._model(**inputs).logits[:, 0].float().tolist()

    def _padding(self, rows: list[list[int]]) -> int | None:
        used = {token for row in rows for token in row}
        vocabulary = self._model.config.get_text_config().vocab_size
        return next((token for token in range(vocabulary) if token not in used), None)


def batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches of similar length, each of at most `budget` tokens, padding included.

    A row longer than the budget is a batch of its own.
    """
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if batch and lengths[batch[0]] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def _causal(model: Any) -> bool:
    """Whether every attention layer says that it looks backwards only."""
    flags = [m.is_causal for m in model.modules() if hasattr(m, "is_causal")]
    return bool(flags) and all(flags)
