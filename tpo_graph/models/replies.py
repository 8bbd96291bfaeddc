"""What a reply says once its wrapping is off: reasoning blocks, output tags, refusals.

Takes a chat model's message, gives the text that the algorithm uses, or None when there is none.
Plain string searches only: replies are hostile input, and up to megabytes long.
"""

import re

from langchain_core.messages import BaseMessage

_THINK, _END_THINK = "<think>", "</think>"
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def usable_text(message: BaseMessage, tag: str | None = None) -> str | None:
    """The text of a reply, or None when it is unusable.

    Unusable are replies that are empty, that never end a reasoning block, or, given a `tag`, that
    never open it. With a tag the text runs from the first opening tag to the last closing one, or
    to the end of the reply when it was cut short.
    """
    text = parse_reply(str(message.text), tag)
    if text is None and tag is None and not str(message.text).strip():
        refusal = message.additional_kwargs.get("refusal")
        return parse_reply(refusal) if isinstance(refusal, str) else None
    return text


def parse_reply(text: str, tag: str | None = None) -> str | None:
    """The text inside a reply's wrapping, trimmed, or None (see `usable_text`)."""
    inner = _without_reasoning(text)
    if inner is not None and tag is not None:
        inner = _inside(inner, tag)
    if inner is None or not (inner := inner.strip()):
        return None
    # Neither databases nor checkpoints can hold NUL or lone surrogates.
    return _UNSTORABLE.sub("\ufffd", inner)


def _without_reasoning(text: str) -> str | None:
    start = _after_space(text, 0)
    while text.startswith(_THINK, start):
        end = text.find(_END_THINK, start)
        if end < 0:
            return None
        start = _after_space(text, end + len(_END_THINK))
    return text[start:]


def _after_space(text: str, start: int) -> int:
    while start < len(text) and text[start].isspace():
        start += 1
    return start


def _inside(text: str, tag: str) -> str | None:
    opening, closing = f"<{tag}>", f"</{tag}>"
    start = text.find(opening)
    if start < 0:
        return None
    start += len(opening)
    end = text.rfind(closing, start)
    return text[start:] if end < 0 else text[start:end]
