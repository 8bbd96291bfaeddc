"""`SGLangRewardModel`: a one-label classifier behind an SGLang server started with --is-embedding.

It asks the native `/classify`, whose "embedding" of a one-label classifier is the raw logit.
`/v1/classify` takes the softmax, which is 1.0 for every text when there is one label.
"""

from collections.abc import Sequence
from typing import Any, cast

from tpo_graph.conversation import Turn
from tpo_graph.local.encoder import Encoder
from tpo_graph.rewards.http import Endpoint
from tpo_graph.rewards.served import (
    ROWS,
    RawScores,
    only_number,
    scored_in_parts,
    spend_request,
    unexpected,
)


class SGLangRewardModel:
    """Scores by the native `POST /classify` of an SGLang server.

    That path knows no messages and adds a BOS token to text, so the chat template is applied here
    and token ids are sent.

    Args:
        url: base URL of the server.
        model: name the model is served under.
        tokenizer: folder or hub id of its tokenizer; None: `model` names it.
        api_key: the server's key.
        endpoint: options of `Endpoint`.

    Raises:
        ConfigurationError: no usable URL or tokenizer.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        tokenizer: str | None = None,
        api_key: str | None = None,
        **endpoint: Any,
    ) -> None:
        self._endpoint = Endpoint(url, api_key=api_key, **endpoint)
        self._model = model
        self.encoder = Encoder(tokenizer or model)
        self._raw = RawScores(f"the SGLang server {self._endpoint.url!r}")
        self.name = f"sglang:{self._endpoint.url}#{model}@{self.encoder.digest}"

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`. It also fails where the server squashes every score to 1."""
        rows = await self.encoder.rows(conversation, responses)
        parts = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
        scores = await scored_in_parts(self._ask, parts, responses)
        self._raw.look(responses, scores)
        return scores

    async def _ask(self, rows: list[list[int]]) -> list[float]:
        reply = await self._endpoint.post("/classify", {"model": self._model, "input_ids": rows})
        url = self._endpoint.url + "/classify"
        expected = f"a list of {len(rows)} objects with one number in `embedding`"
        try:
            vectors = [row["embedding"] for row in cast("list[dict[str, Any]]", reply)]
        except (KeyError, TypeError) as error:
            raise unexpected(url, reply, expected) from error
        scores = [only_number(vector) for vector in vectors]
        if None in scores or len(scores) != len(rows):
            raise unexpected(url, reply, expected)
        spend_request(sum(map(len, rows)))
        return cast("list[float]", scores)
