"""OpenAI's Responses API, stateless: the same answers, told in its objects and events.

Everything is made from chat completions and their chunks, of runs and of the base model alike.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from tpo_graph.serve.base import Completion

Event = dict[str, Any]


@dataclass
class Response:
    """One response on its way, item by item.

    Args:
        body: the request, of which a response repeats a good part.
    """

    body: Mapping[str, Any]
    custom_tools: frozenset[str] = frozenset()
    """Names of the tools whose calls are free text."""
    id: str = field(default_factory=lambda: f"resp_{uuid4().hex}")
    created: int = field(default_factory=lambda: int(time.time()))
    output: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    usage: dict[str, Any] | None = None
    tpo: dict[str, Any] | None = None
    finish: str | None = None
    _count: int = -1

    def whole(self, completion: Completion) -> dict[str, Any]:
        """The response that says what a completion says."""
        choice: dict[str, Any] = completion["choices"][0]
        message: dict[str, Any] = choice["message"]
        if lines := message.get("reasoning_content"):
            self.output.append(_whole("reasoning", 0, lines))
        if (text := message.get("content")) or not message.get("tool_calls"):
            self.output.append(_whole("message", len(self.output), text or ""))
        self.output += [self._call(call) for call in message.get("tool_calls") or ()]
        self._end(completion, choice.get("finish_reason"))
        return self.told()

    async def events(self, chunks: AsyncIterable[Completion]) -> AsyncGenerator[Event]:
        """The response's events, from the chunks of a completion."""
        yield self._event("response.created", response=self.told("in_progress"))
        yield self._event("response.in_progress", response=self.told("in_progress"))
        item: _Item | None = None
        calls: dict[int, dict[str, Any]] = {}
        async for chunk in chunks:
            for choice in chunk.get("choices") or ():
                delta: dict[str, Any] = choice.get("delta") or {}
                said = {
                    "reasoning": delta.get("reasoning_content"),
                    "message": delta.get("content"),
                }
                for kind, text in said.items():
                    if not text:
                        continue
                    if item is None or item.kind != kind:
                        for event in self._closed(item):
                            yield event
                        item = _Item(kind, len(self.output))
                        self.output.append(item.told())
                        for event in item.opened():
                            yield self._event(**event)
                    yield self._event(**item.said(text))
                for call in delta.get("tool_calls") or ():
                    _add(calls.setdefault(call.get("index", 0), {"function": {}}), call)
                if choice.get("finish_reason"):
                    self.finish = choice["finish_reason"]
            self._end(chunk, self.finish)
        for event in self._closed(item):
            yield event
        for call in calls.values():
            for event in self._called(self._call(call)):
                yield event
        if not self.output:
            self.output.append(_whole("message", 0, ""))
        kind = "incomplete" if self.told()["status"] == "incomplete" else "completed"
        yield self._event(f"response.{kind}", response=self.told())

    def failed(self, error: Mapping[str, Any]) -> list[Event]:
        """The end of a response that came to nothing.

        Args:
            error: OpenAI's error object.
        """
        code = "rate_limit_exceeded" if error["type"] == "rate_limit_error" else "server_error"
        told = {**self.told("failed"), "error": {"code": code, "message": error["message"]}}
        return [
            self._event("response.failed", response=told),
            {**self._event("error"), **error, "type": "error", "error": dict(error)},
        ]

    def told(self, status: str | None = None) -> dict[str, Any]:
        """The response object as it is now."""
        why = {"length": "max_output_tokens", "content_filter": "content_filter"}
        cut = why.get(self.finish or "")
        status = status or ("incomplete" if cut else "completed")
        body = self.body
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": cut} if status == "incomplete" else None,
            "instructions": body.get("instructions"),
            "max_output_tokens": body.get("max_output_tokens"),
            "metadata": body.get("metadata") or {},
            "model": body.get("model"),
            "output": list(self.output),
            "parallel_tool_calls": body.get("parallel_tool_calls", True),
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": body.get("temperature"),
            "text": body.get("text") or {"format": {"type": "text"}},
            "tool_choice": body.get("tool_choice") or "auto",
            "tools": body.get("tools") or [],
            "top_p": body.get("top_p"),
            "truncation": "disabled",
            "usage": self.usage,
            "tpo": self.tpo,
        }

    def _end(self, completion: Completion, finish: str | None) -> None:
        self.finish = finish
        self.tpo = completion.get("tpo") or self.tpo
        if counts := completion.get("usage"):
            sent: dict[str, Any] = counts.get("prompt_tokens_details") or {}
            written: dict[str, Any] = counts.get("completion_tokens_details") or {}
            cached: int = sent.get("cached_tokens") or 0
            thought: int = written.get("reasoning_tokens") or 0
            self.usage = {
                "input_tokens": counts["prompt_tokens"],
                "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
                "output_tokens": counts["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": thought},
                "total_tokens": counts["total_tokens"],
            }

    def _closed(self, item: "_Item | None") -> list[Event]:
        if item is None:
            return []
        self.output[item.index] = item.told()
        return [self._event(**event) for event in item.closed()]

    def _called(self, call: dict[str, Any]) -> list[Event]:
        at = {"output_index": len(self.output)}
        self.output.append(call)
        place = {"item_id": call["id"], **at}
        said = "input" if call["type"] == "custom_tool_call" else "arguments"
        event = f"response.{call['type']}_{said}"
        begun = {**call, said: "", "status": "in_progress"}
        whole = {said: call[said], **({"name": call["name"]} if said == "arguments" else {})}
        return [
            self._event("response.output_item.added", item=begun, **at),
            self._event(f"{event}.delta", delta=call[said], **place),
            self._event(f"{event}.done", **whole, **place),
            self._event("response.output_item.done", item=call, **at),
        ]

    def _call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        name, text = call["function"].get("name"), call["function"].get("arguments") or ""
        custom = name in self.custom_tools
        return {
            "id": f"{'ctc' if custom else 'fc'}_{uuid4().hex}",
            "type": "custom_tool_call" if custom else "function_call",
            "call_id": call.get("id"),
            "name": name,
            "input" if custom else "arguments": text,
            "status": "completed",
        }

    def _event(self, type: str, **fields: Any) -> Event:
        self._count += 1
        return {"type": type, "sequence_number": self._count, **fields}


@dataclass
class _Item:
    """An item of the output whose text comes in pieces: the progress, or the answer."""

    kind: str
    """"reasoning" or "message"."""
    index: int
    text: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        self.id = f"{_PREFIX[self.kind]}_{uuid4().hex}"
        self._part, self._text, where = _EVENTS[self.kind]
        self._where = {"item_id": self.id, "output_index": self.index, where: 0}
        self._logprobs = {"logprobs": []} if self.kind == "message" else {}

    def told(self, status: str = "completed") -> dict[str, Any]:
        """The item as it is now."""
        if self.kind == "reasoning":
            parts = [self._content()] if status == "completed" else []
            return {"id": self.id, "type": "reasoning", "summary": parts}
        parts = [self._content()] if status == "completed" else []
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": parts,
        }

    def opened(self) -> list[Event]:
        """The events before its text."""
        at = {"item": self.told("in_progress"), "output_index": self.index}
        return [
            {"type": "response.output_item.added", **at},
            {"type": f"response.{self._part}.added", "part": self._content(), **self._where},
        ]

    def said(self, text: str) -> Event:
        """The event of a piece of its text."""
        self.text += text
        kind = f"response.{self._text}.delta"
        return {"type": kind, "delta": text, **self._where, **self._logprobs}

    def closed(self) -> list[Event]:
        """The events after its text."""
        done: Event = {"text": self.text, **self._where, **self._logprobs}
        return [
            {"type": f"response.{self._text}.done", **done},
            {"type": f"response.{self._part}.done", "part": self._content(), **self._where},
            {
                "type": "response.output_item.done",
                "item": self.told(),
                "output_index": self.index,
            },
        ]

    def _content(self) -> dict[str, Any]:
        if self.kind == "reasoning":
            return {"type": "summary_text", "text": self.text}
        return {"type": "output_text", "text": self.text, "annotations": [], "logprobs": []}


_PREFIX = {"reasoning": "rs", "message": "msg"}
_EVENTS = {
    "reasoning": ("reasoning_summary_part", "reasoning_summary_text", "summary_index"),
    "message": ("content_part", "output_text", "content_index"),
}
"""Names of an item's events: of its part, of the part's text, and of the part's number."""


def _whole(kind: str, index: int, text: str) -> dict[str, Any]:
    return _Item(kind, index, text).told()


def _add(call: dict[str, Any], delta: Mapping[str, Any]) -> None:
    """Put a piece of a call to what has come of it."""
    call["id"] = delta.get("id") or call.get("id")
    function: dict[str, str | None] = delta.get("function") or {}
    for name, text in function.items():
        call["function"][name] = call["function"].get(name, "") + (text or "")
