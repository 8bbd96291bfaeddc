"""Padded forward passes: rows side by side, for models whose rows cannot be packed.

Encoders, sliding windows, recurrent layers: any one-label classifier of transformers.
"""

from collections.abc import Sequence
from typing import Any

from tpo_graph.local.batching import Row


class PaddedForward:
    """Scores batches padded on the right, by any sequence classifier.

    Under causal attention no real token sees the padding, so it needs no mask, which keeps the fast
    attention path.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._masked = not _causal(model)

    def __call__(self, rows: Sequence[Row]) -> list[float]:
        """Raw logit per row."""
        import torch

        pad = self._padding(rows)
        if pad is None and len(rows) > 1:
            return [score for row in rows for score in self([row])]
        longest = max(len(row.ids) for row in rows)
        config = self._model.config
        # The classifier reads the last token that is not padding: any id absent from the rows is a
        # safe one, whereas the tokenizer's own may be the end token of every row.
        config.pad_token_id = config.get_text_config().pad_token_id = pad
        padded = [row.ids + [pad or 0] * (longest - len(row.ids)) for row in rows]
        inputs: dict[str, Any] = {"input_ids": torch.tensor(padded, device=self._model.device)}
        if self._masked:
            lengths = torch.tensor([len(row.ids) for row in rows])
            mask = torch.arange(longest)[None] < lengths[:, None]
            inputs["attention_mask"] = mask.to(self._model.device, torch.long)
        with torch.inference_mode():
            return self._model(**inputs).logits[:, 0].float().tolist()

    def _padding(self, rows: Sequence[Row]) -> int | None:
        used = {token for row in rows for token in row.ids}
        vocabulary = self._model.config.get_text_config().vocab_size
        return next((token for token in range(vocabulary) if token not in used), None)


def _causal(model: Any) -> bool:
    """Whether every attention layer says that it looks backwards only."""
    flags = [m.is_causal for m in model.modules() if hasattr(m, "is_causal")]
    return bool(flags) and all(flags)
