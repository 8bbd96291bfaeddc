"""What a reply says once its wrapping is off: reasoning blocks, output tags, refusals.

Takes a chat model's message, gives the text that the algorithm uses, or why there is none. Plain
string searches only: replies are hostile input, and up to megabytes long.

A text inside an output tag is whole when the tag is closed. Where the closing tag or both are
missing, the text is used only if nothing was lost and nothing stands around it (`_salvaged`).
"""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from langchain_core.messages import BaseMessage

from tpo_graph.conversation import storable

_REASONING = (
    ("<think>", "</think>"),  # DeepSeek-R1, QwQ, Qwen3
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),  # Gemini's OpenAI-compatible API
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("◁think▷", "◁/think▷"),  # Kimi
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker, Sky-T1
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
)
_REASONING_IN_WORDS = ("analysis", "assistantfinal")
"""What is left of gpt-oss's marks where a server leaves special tokens out; only as a pair."""
_MENTION = re.compile(r"\W*(?:and|or|to|und|et|y|e)?\W*")
"""What stands between two tags that are named ("between <tag> and </tag>"), not used."""
_FENCE = re.compile(r"(`{3,}|~{3,})([^\n`]*)\n(.*)\n\1", re.DOTALL)
_PLAIN_FENCES = ("", "text", "txt", "markdown", "md", "plaintext")
_PREAMBLE = re.compile(
    r"(?:sure|certainly|of course|okay|ok|here(?:'s| is| are)|below is|i(?:'ve| have| will|'ll)"
    r"|let(?:'s| me| us)|to (?:improve|follow|apply)|based on|following|(?:the |my )?(?:improved"
    r"|revised|updated|rewritten|final|new|chosen|rejected))\b",
    re.IGNORECASE,
)
_FEWEST_WORDS = 8
"""A reply without any tag that is shorter may as well be a remark."""

Why = Literal["empty", "no tag", "cut", "filtered"]


class Unusable(NamedTuple):
    """A reply that holds no text for the algorithm."""

    text: str
    """All that the model wrote."""
    why: Why
    """"empty": nothing, or reasoning only; "no tag": the output tag is missing; "cut": the token
    limit came before the end of the reasoning or of the tagged text; "filtered": the provider's
    content filter left nothing of it."""


@dataclass(frozen=True)
class Reply:
    """The usable text of a reply."""

    text: str
    closed: bool = False
    """Whether the output tag is closed behind it: then the token limit has cut nothing of it."""
    salvaged: bool = False
    """Whether it was used although its output tag is missing or was not closed."""


def read_reply(
    message: BaseMessage,
    tag: str | None = None,
    finish_reason: str | None = None,
    *,
    bare_reasoning: bool = False,
) -> Reply | Unusable:
    """The text of a reply, or why it has none.

    Reasoning is taken off the beginning of the reply: closed blocks, and, where the chat template
    has written the opening mark already, all up to the last closing mark.

    Args:
        tag: when given, the text is what stands in the last complete pair of this tag.
        finish_reason: "stop", "length" or another; None when the provider gives none.
        bare_reasoning: this model writes reasoning without an opening mark. A reply that was cut
            before any closing mark is then nothing but reasoning.
    """
    said = str(message.text)
    refusal = message.additional_kwargs.get("refusal")
    if tag is None and not said.strip() and isinstance(refusal, str):
        said = refusal
    cut = finish_reason == "length"
    inner = _without_reasoning(said, tag)
    if cut and bare_reasoning and inner == said[_after_space(said, 0) :]:
        inner = None
    if inner is None or not inner.strip():
        filtered = finish_reason == "content_filter"
        return Unusable(storable(said), "cut" if cut else "filtered" if filtered else "empty")
    if tag is None:
        return Reply(storable(inner.strip()))
    found = _tagged(inner, tag, cut) or (
        _salvaged(inner.strip(), tag) if finish_reason == "stop" else None
    )
    return found or Unusable(storable(said), "cut" if cut else "no tag")


def parse_reply(text: str, tag: str | None = None) -> str | None:
    """The text inside a reply's wrapping, trimmed, or None (see `read_reply`)."""
    inner = _without_reasoning(text, tag)
    if inner is None or not inner.strip():
        return None
    if tag is None:
        return storable(inner.strip())
    found = _tagged(inner, tag, cut=False)
    return None if found is None else found.text


def has_bare_reasoning(message: BaseMessage) -> bool:
    """Whether a reply begins with reasoning that has no opening mark, as its template wrote it."""
    text = str(message.text)
    return _after_bare_reasoning(text, _after_space(text, 0)) is not None


def _without_reasoning(text: str, tag: str | None) -> str | None:
    start = _after_space(text, 0)
    if tag is not None and (whole := _before_stray_mark(text, tag)) is not None:
        return whole[start:]
    after = _after_bare_reasoning(text, start)
    # A closing mark within the tagged text belongs to the text.
    if after is not None and (tag is None or not _closes_first(text, after, tag)):
        start = _after_space(text, after)
    while (block := _block_at(text, start)) is not None:
        end = text.find(block[1], start + len(block[0]))
        if end < 0:
            return None if block != _REASONING_IN_WORDS else text[start:]
        start = _after_space(text, end + len(block[1]))
    return text[start:]


def _before_stray_mark(text: str, tag: str) -> str | None:
    """What stands before a closing mark of reasoning that ends the reply, if that closes the tag.

    The whole text was written; only the mark stands behind it instead of before it. With an opening
    mark it is a draft among thoughts, and the text is still to come.
    """
    text = text[: _before_space(text, len(text))]
    for opening, closing in _REASONING:
        if text.endswith(closing) and opening not in text:
            whole = text.removesuffix(closing)
            if whole.endswith(f"</{tag}>", 0, _before_space(whole, len(whole))):
                return whole
    return None


def _block_at(text: str, start: int) -> tuple[str, str] | None:
    for opening, closing in (*_REASONING, _REASONING_IN_WORDS):
        if text.startswith(opening, start):
            return opening, closing
    return None


def _after_bare_reasoning(text: str, start: int) -> int | None:
    """Behind the last closing mark that no opening mark precedes."""
    if _block_at(text, start) is not None:
        return None
    for opening, closing in _REASONING:
        opened = text.find(opening, start)
        stop = len(text) if opened < 0 else opened
        while (end := text.rfind(closing, start, stop)) >= 0:
            after = end + len(closing)
            if not _quoted(text, end, after):
                return after
            stop = end
    return None


def _quoted(text: str, start: int, end: int) -> bool:
    """Whether a mark is spoken of: `</think>` in quotes or backticks."""
    return text[start - 1 : start] == text[end : end + 1] and text[end : end + 1] in tuple("`'\"")


def _closes_first(text: str, start: int, tag: str) -> bool:
    closing = text.find(f"</{tag}>", start)
    opening = text.find(f"<{tag}>", start)
    return closing >= 0 and (opening < 0 or closing < opening)


def _after_space(text: str, start: int) -> int:
    while start < len(text) and text[start].isspace():
        start += 1
    return start


def _tagged(text: str, tag: str, cut: bool) -> Reply | None:
    """What stands in the last complete pair of the tag, or behind a last one left open."""
    pairs: list[tuple[int, int]] = []
    opened: list[int] = []
    for mark in re.finditer(f"<(/?){re.escape(tag)}>", text, re.IGNORECASE):
        if not mark[1]:
            opened.append(mark.end())
        elif opened:
            start = opened.pop()
            while pairs and pairs[-1][0] > start:
                pairs.pop()  # stands inside this one
            pairs.append((start, mark.start()))
    used = [pair for pair in pairs if not _MENTION.fullmatch(text, *pair)]
    if used:
        start, end = used[-1]
        if used[-1] == pairs[-1] and not (opened and opened[-1] > end):
            end = _wrapping_end(text, tag, end)
        return _reply(text[start:end], closed=True)
    if cut or not opened or (pairs and pairs[-1][0] > opened[-1]):
        return None
    return _reply(text[opened[-1] :], salvaged=True)


def _wrapping_end(text: str, tag: str, end: int) -> int:
    """Where the pair closes if it ends the reply: texts may hold the closing tag itself."""
    closing = f"</{tag}>"
    last = stop = _before_space(text, len(text))
    # Small models write the closing tag twice.
    while stop > end and text.endswith(closing, end, stop):
        last = stop - len(closing)
        stop = _before_space(text, last)
    return last if last < _before_space(text, len(text)) else end


def _before_space(text: str, end: int) -> int:
    while end > 0 and text[end - 1].isspace():
        end -= 1
    return end


def _reply(text: str, *, closed: bool = False, salvaged: bool = False) -> Reply | None:
    text = text.strip()
    return Reply(storable(text), closed, salvaged) if text else None


def _salvaged(text: str, tag: str) -> Reply | None:
    """A whole reply without an opening tag, if it is clearly the text and nothing else.

    That is: the closing tag ends it, it is one code fence, or it has at least eight words; and it
    neither begins like a remark or a copy of the prompt's frame, nor speaks of the tag.
    """
    closing = f"</{tag}>"
    closed = text.endswith(closing)
    text = text.removesuffix(closing).rstrip()
    if tag in text or tag.replace("_", " ") in text.lower():
        return None
    if fence := _FENCE.fullmatch(text):
        plain = fence[2].strip().lower() in _PLAIN_FENCES
        return _reply(fence[3] if plain else text, salvaged=True)
    first_line = text.partition("\n")[0].rstrip("*_ ")
    if text.startswith("<") or first_line.endswith(":") or _PREAMBLE.match(text.lstrip("*_# ")):
        return None
    if not closed and len(text.split()) < _FEWEST_WORDS:
        return None
    return _reply(text, salvaged=True)
