"""The base model's context window, as far as its server tells it."""

import asyncio
import time

from langchain_core.language_models import BaseChatModel

from tpo_graph.check.window import served_window

_SECONDS = 2.0
"""Of waiting for the model's server: a client's list of models must not depend on it."""
_AGAIN = 60.0
"""Seconds until a server that told nothing is asked again: it may have been starting."""


class Window:
    """The window of one model; its server is asked when somebody wants to know, until it tells.

    Args:
        model: the chat model.
    """

    def __init__(self, model: BaseChatModel) -> None:
        self._model = model
        self._tokens: int | None = None
        self._asked: float | None = None

    async def tokens(self) -> int | None:
        """Its size in tokens; None where it is not known."""
        now = time.monotonic()
        if self._tokens is None and (self._asked is None or now - self._asked > _AGAIN):
            self._asked = now
            try:
                async with asyncio.timeout(_SECONDS):
                    self._tokens = await served_window(self._model)
            except TimeoutError:
                pass
        return self._tokens
