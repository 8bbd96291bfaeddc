"""`VLLMRewardModel`: a one-label classifier behind a vLLM server.

Scores are raw logits: the activation is off in every request, because the server's default is the
sigmoid, which leaves no difference between very good answers.
"""

import re
from collections.abc import Sequence
from typing import Any, cast

from tpo_graph.conversation import Turn, well_formed
from tpo_graph.errors import RewardError
from tpo_graph.local.encoder import Encoder
from tpo_graph.rewards.http import Endpoint, MissingRouteError
from tpo_graph.rewards.served import (
    ROWS,
    RawScores,
    only_number,
    scored_in_parts,
    spend_request,
    unexpected,
)

# Control tokens of Qwen, Llama, Gemma, Mistral, DeepSeek, GPT and kin.
_CONTROL = re.compile(
    r"<(?=[|｜][^<>]{1,48}[|｜]>)|<(?=/?s>)|<(?=/?(?:bos|eos|pad|unk|cls|sep|mask)>)"
    r"|<(?=(?:start|end)_of_(?:turn|text|image)>)|<(?=<?/?SYS>)|<(?=/?think>)"
    r"|\[(?=/?(?:INST|[A-Z]+(?:_[A-Z]+)+)\])"
)

# The option has had three names, and a server takes no notice of those that it does not know.
_RAW = {"softmax": False, "activation": False, "use_activation": False}


class VLLMRewardModel:
    """Scores by `POST /classify` of a vLLM server, or `/pooling` where that is all it has.

    With a tokenizer, the chat template is applied here and token ids are sent: control tokens in a
    text are plain characters then, and there is exactly one BOS. Without, the server applies its
    template to messages; control tokens in a text are broken up by a zero-width space.

    Args:
        url: base URL of the server.
        model: name the model is served under.
        tokenizer: folder or hub id of its tokenizer.
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
        self.encoder = Encoder(tokenizer) if tokenizer else None
        self._pooling = False
        """Whether the server turned out to have no `/classify`."""
        self._raw = RawScores(f"the vLLM server {self._endpoint.url!r}")
        read_as = f"@{self.encoder.digest}" if self.encoder else ""
        self.name = f"vllm:{self._endpoint.url}#{model}{read_as}"

    async def score(self, conversation: Sequence[Turn], responses: Sequence[str]) -> list[float]:
        """See `RewardModel.score`. It also fails where the server squashes every score to 1."""
        if self.encoder is not None:
            rows = await self.encoder.rows(conversation, responses)
            asked = [
                {"input": rows[start : start + ROWS], "add_special_tokens": False}
                for start in range(0, len(rows), ROWS)
            ]
        else:
            turns = [_plain(turn) for turn in conversation]
            asked = [
                {"messages": [*turns, _plain(Turn(role="assistant", content=response))]}
                for response in responses
            ]
        size = ROWS if self.encoder is not None else 1
        scores = await scored_in_parts(self._ask, asked, responses, size)
        if len(scores) != len(responses):
            raise unexpected(self._endpoint.url, scores, f"{len(responses)} scores")
        self._raw.look(responses, scores)
        return scores

    async def _ask(self, asked: dict[str, Any]) -> list[float]:
        body = {"model": self._model, **asked, **_RAW}
        if not self._pooling:
            try:
                reply = await self._endpoint.post("/classify", body)
                return self._read(reply, "probs", "/classify")
            except MissingRouteError as error:
                missing = error
            try:
                scores = await self._pool(body)
            except MissingRouteError:
                raise missing from None
            self._pooling = True
            return scores
        return await self._pool(body)

    async def _pool(self, body: dict[str, Any]) -> list[float]:
        reply = await self._endpoint.post("/pooling", {**body, "task": "classify"})
        return self._read(reply, "data", "/pooling")

    def _read(self, reply: object, key: str, path: str) -> list[float]:
        expected = f"one number per conversation in data[...].{key}"
        try:
            answered = cast("dict[str, Any]", reply)
            rows = cast("list[dict[str, Any]]", answered["data"])
            values = [row[key] for row in sorted(rows, key=lambda row: row["index"])]
        except (KeyError, TypeError) as error:
            raise unexpected(self._endpoint.url + path, reply, expected) from error
        usage: object = answered.get("usage")
        told = cast("dict[str, object]", usage) if isinstance(usage, dict) else {}
        spend_request(told.get("prompt_tokens"))
        scores = [only_number(value) for value in values]
        if None in scores:
            raise self._no_score(values, reply, path, expected)
        return cast("list[float]", scores)

    def _no_score(self, values: list[Any], reply: object, path: str, expected: str) -> RewardError:
        labels = {len(cast("list[object]", value)) for value in values if isinstance(value, list)}
        if path == "/classify" and labels - {1}:
            return RewardError(
                f"{self._model!r} at {self._endpoint.url!r} has {max(labels)} labels: a reward "
                "model has one. Serve a classifier that was trained on preferences."
            )
        return unexpected(self._endpoint.url + path, reply, expected)


def _plain(turn: Turn) -> Turn:
    """The turn with control tokens in its text broken up."""
    content = _CONTROL.sub(lambda found: found[0] + "\u200b", well_formed(turn["content"]))
    return Turn(role=turn["role"], content=content)
