"""One reply of a local policy while its tokens arrive, as tokens and as text."""

from typing import Any

_INCOMPLETE = "\ufffd"  # how a tokenizer shows the first bytes of a character


class Reply:
    """A reply that `local.sampling` extends and `ChatLocal` reads; the stop strings that end it are
    not part of it."""

    def __init__(self, tokenizer: Any, stop: list[str] | None) -> None:
        self.ids: list[int] = []
        """Tokens so far, without an end token."""
        self.drawn = 0
        """Tokens drawn, the end token included: what a provider would bill."""
        self.finish: str | None = None
        """"stop" or "length" once the reply has ended."""
        self._tokenizer = tokenizer
        self._stop = [text for text in stop or [] if text]

    def extend(self, token: int, max_tokens: int, ends: frozenset[int]) -> None:
        """Add a token; it ends the reply if it is one of `ends`, the last, or completes a stop."""
        self.drawn += 1
        if token in ends:
            self.finish = "stop"
            return
        self.ids.append(token)
        if self._stop and self._cut() is not None:
            self.finish = "stop"
        elif self.drawn >= max_tokens:
            self.finish = "length"

    def text(self) -> str:
        """The text so far, without the stop string that ended it."""
        return self._decoded()[: self._cut()]

    def settled(self) -> str:
        """The part of the text that no later token can change."""
        text = self.text().rstrip(_INCOMPLETE)
        held = max((len(stop) - 1 for stop in self._stop), default=0)
        return text[: max(0, len(text) - held)]

    def _decoded(self) -> str:
        return self._tokenizer.decode(
            self.ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    def _cut(self) -> int | None:
        text = self._decoded() if self._stop else ""
        return min((text.index(stop) for stop in self._stop if stop in text), default=None)
