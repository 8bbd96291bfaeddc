"""What came of a request, as a chat completion of OpenAI's API: whole, and in chunks."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from tpo_graph.agents.answers import before_stop, usage_metadata
from tpo_graph.candidates import Candidate, rank
from tpo_graph.serve.base import Completion
from tpo_graph.serve.request import Asked
from tpo_graph.serve.tools import free_text
from tpo_graph.session.result import TPOResult

_PIECE = 48
"""Characters of a content delta: the answer is known as a whole, and clients render deltas."""


@dataclass(frozen=True)
class Outcome:
    """What came of a request."""

    result: TPOResult | None = None
    """The run's."""
    turn: Completion | None = None
    """The base model's own completion: calls of tools, or the draft that the run began with."""


@dataclass(frozen=True)
class Choice:
    """One answer."""

    text: str
    finish_reason: str


@dataclass(frozen=True)
class Reply:
    """The reply to one request, of which the first parts are known before the answer is."""

    asked: Asked
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))

    def beginning(self) -> Completion:
        """The first chunk."""
        return self._chunk(_delta(0, {"role": "assistant", "content": ""}))

    def progress(self, line: str) -> Completion:
        """A line of progress; of the two names, some clients read one and some the other."""
        return self._chunk(_delta(0, {"reasoning_content": line, "reasoning": line}))

    def ending(self, outcome: Outcome) -> Iterator[Completion]:
        """The answer and all that follows it."""
        if outcome.result is None:
            yield from self._turn(outcome)
        else:
            for index, choice in enumerate(choices(self.asked, outcome.result)):
                if index:
                    yield self._chunk(_delta(index, {"role": "assistant", "content": ""}))
                for piece in pieces(choice.text):
                    yield self._chunk(_delta(index, {"content": piece}))
                last = self._chunk(_delta(index, {}, choice.finish_reason))
                yield last if index else {**last, "tpo": about(outcome.result)}
        if self.asked.include_usage:
            yield {**self._chunk(), "usage": usage(outcome)}

    def whole(self, outcome: Outcome, lines: str) -> Completion:
        """The reply in one piece.

        Args:
            lines: all lines of progress.
        """
        head: Completion = {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.asked.model,
        }
        if outcome.result is None:
            made = free_text(outcome.turn or {}, self.asked.custom_tools)
            return {**head, "choices": made.get("choices", []), "usage": usage(outcome)}
        told = [
            {
                "index": index,
                "message": {
                    "role": "assistant",
                    "content": choice.text,
                    "refusal": None,
                    **({} if index else {"reasoning_content": lines, "reasoning": lines}),
                },
                "finish_reason": choice.finish_reason,
                "logprobs": None,
            }
            for index, choice in enumerate(choices(self.asked, outcome.result))
        ]
        return {**head, "choices": told, "usage": usage(outcome), "tpo": about(outcome.result)}

    def _turn(self, outcome: Outcome) -> Iterator[Completion]:
        """The base model's own turn, in chunks."""
        made = free_text(outcome.turn or {}, self.asked.custom_tools)
        for choice in made.get("choices", []):
            message: dict[str, Any] = choice["message"]
            for piece in pieces(message.get("content") or ""):
                yield self._chunk(_delta(choice["index"], {"content": piece}))
            if calls := message.get("tool_calls"):
                numbered = [{**call, "index": at} for at, call in enumerate(calls)]
                yield self._chunk(_delta(choice["index"], {"tool_calls": numbered}))
            yield self._chunk(_delta(choice["index"], {}, choice["finish_reason"]))

    def _chunk(self, *told: dict[str, Any]) -> Completion:
        return {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.asked.model,
            "choices": list(told),
        }


def choices(asked: Asked, result: TPOResult) -> list[Choice]:
    """The run's answer, and its next best responses where the request wants several."""
    at = [c for c in result.candidates if c["response"] == result.response]
    found = [min(at, key=lambda c: c["iteration"] != result.iteration)] if at else []
    texts = {result.response}
    for candidate in sorted(result.candidates, key=rank):
        if len(found) < asked.n and candidate["response"] not in texts:
            texts.add(candidate["response"])
            found.append(candidate)
    return [_ended(candidate, asked.stop) for candidate in found]


def _ended(candidate: Candidate, stop: list[str]) -> Choice:
    text = before_stop(candidate["response"], stop)
    if text != candidate["response"]:
        return Choice(text, "stop")
    reason = candidate.get("finish_reason", "stop")
    return Choice(text, reason if reason in ("length", "content_filter") else "stop")


def about(result: TPOResult) -> dict[str, Any]:
    """What a reply says of its run."""
    return {
        "run_id": result.run_id,
        "reward": result.reward,
        "first_reward": result.first_best,
        "iteration": result.iteration,
        "stop_reason": result.stop_reason,
        "history": result.history,
        "error": result.error,
    }


def usage(outcome: Outcome) -> dict[str, Any]:
    """Tokens of the whole run, each call once.

    What is not in the answer itself (other samples, critiques) counts as reasoning. Servers count a
    request's tokens and not a sample's, so the answer's own are a share by length.
    """
    drafted: dict[str, Any] = (outcome.turn or {}).get("usage") or {}
    sent, written = _int(drafted.get("prompt_tokens")), _int(drafted.get("completion_tokens"))
    details: dict[str, Any] = drafted.get("prompt_tokens_details") or {}
    cached = _int(details.get("cached_tokens"))
    own = written
    if outcome.result is not None:
        spent = usage_metadata(outcome.result.usage)
        if spent is not None:
            sent, written = sent + spent["input_tokens"], written + spent["output_tokens"]
            cached += spent.get("input_token_details", {}).get("cache_read", 0)
        own = min(written, _answer_tokens(outcome.result))
    return {
        "prompt_tokens": sent,
        "completion_tokens": written,
        "total_tokens": sent + written,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": written - own},
    }


def _answer_tokens(result: TPOResult) -> int:
    stage = "update" if result.iteration else "sample"
    tokens = result.usage[stage]["completion_tokens"] if stage in result.usage else 0
    beside = [c for c in result.candidates if bool(c["iteration"]) == bool(result.iteration)]
    characters = sum(len(c["response"]) for c in beside)
    return round(tokens * len(result.response) / characters) if characters else 0


def pieces(text: str) -> Iterator[str]:
    """The text in the pieces of a stream."""
    for start in range(0, len(text), _PIECE):
        yield text[start : start + _PIECE]


def _delta(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
