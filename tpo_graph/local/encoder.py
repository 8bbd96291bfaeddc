"""`Encoder`: conversations to token ids, for servers that take ids instead of text.

The ids are those of `LocalRewardModel`: one BOS token, and control tokens that stand in a text are
its characters. A server that is sent text would do neither.
"""

import hashlib
from collections.abc import Sequence
from threading import Event

from tpo_graph.conversation import Turn
from tpo_graph.errors import RewardInputError
from tpo_graph.local import weights
from tpo_graph.local.template import ChatTemplate
from tpo_graph.local.worker import Worker


class Encoder:
    """A tokenizer and its chat template, from a folder or hub id, on a thread of its own.

    Raises:
        ConfigurationError: there is no such tokenizer, or it has no chat template.
    """

    def __init__(self, source: str) -> None:
        tokenizer = weights.load_tokenizer(weights.resolve(source))
        self._template = ChatTemplate(tokenizer, source, RewardInputError)
        self._worker = Worker(f"tokenizer {source}")
        self.bos: int | None = tokenizer.bos_token_id
        parts = (self._template.text, tokenizer.backend_tokenizer.to_str())
        self.digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
        """Digest (12 hex digits) of tokenizer and chat template."""

    async def rows(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[list[int]]:
        """Per response the ids of the conversation with it as its last turn.

        Raises:
            RewardInputError: the chat template refuses the conversation.
        """
        turns, texts = list(conversation), list(responses)

        def encode(cancelled: Event) -> list[list[int]]:
            rows: list[list[int]] = []
            for text in texts:
                if cancelled.is_set():
                    break
                answered = [*turns, Turn(role="assistant", content=text)]
                rows.append(self._template.encode(answered, reply=False, one_bos=True))
            return rows

        return await self._worker.arun(encode)
