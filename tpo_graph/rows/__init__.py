"""Rows of prompts, from a file or a data set: what `tpo batch` answers and `tpo compare` compares.

`files` reads the records of a source; here each becomes a `Row`, or a `BadRow` that says
where it stands and what is wrong with it.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, cast

from langchain_core.messages import convert_to_messages

from tpo_graph.context import TPOContext
from tpo_graph.conversation import Turn, asked, conversation_key, turns
from tpo_graph.errors import ConfigurationError
from tpo_graph.rows.files import Record, records

ROW_SETTINGS = ("depth", "width", "criteria")
"""Settings that a row may have of its own."""
_DIGITS = 16


@dataclass(frozen=True)
class Row:
    """One prompt with what came along with it."""

    id: str
    """Given in the column `id`, or made from the prompt; no two rows of a source share one."""
    conversation: list[Turn]
    """What to answer; the last turn is the user's."""
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The row's own `depth`, `width` and `criteria`, over the batch's."""
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """All columns but `id`, as plain JSON values; they go to the output unchanged."""


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be answered: it is recorded and stops no other."""

    id: str
    error: str
    """What is wrong, beginning with where it stands: "line 7: ..."."""
    columns: Mapping[str, Any] = field(default_factory=dict[str, Any])


def read_rows(source: str | Path) -> Iterator[Row | BadRow]:
    """The rows of a JSONL, JSON, CSV or Parquet file, or of a `datasets` id, in their order.

    A row is a string, or a mapping with `prompt` (text or messages) or `messages` (OpenAI's form,
    the last one the user's); `id`, `system`, `depth`, `width` and `criteria` are the row's own, and
    every other column is kept. Ids that are not given are digests of the prompt; one that occurs
    again gets "-2", "-3" and so on.

    Raises:
        ConfigurationError: there is no such source; or, once rows are taken, it cannot be read.
    """
    return _rows(records(source))


def make_rows(values: Iterable[Any]) -> Iterator[Row | BadRow]:
    """Rows of values in memory: strings or mappings as `read_rows` describes them."""
    return _rows(Record(f"item {number}", value) for number, value in enumerate(values, 1))


def _rows(found: Iterable[Record]) -> Iterator[Row | BadRow]:
    taken: dict[str, int] = {}

    def unique(wanted: str) -> str:
        row_id = wanted
        while row_id in taken:
            taken[wanted] += 1
            row_id = f"{wanted}-{taken[wanted]}"
        taken[row_id] = 1
        return row_id

    for record in found:
        row = _row(record)
        yield replace(row, id=unique(row.id))


def _row(record: Record) -> Row | BadRow:
    if record.problem is not None:
        return BadRow(_digest(record.raw), f"{record.place} {record.problem}")
    value: Any = {"prompt": record.value} if isinstance(record.value, str) else record.value
    if not isinstance(value, Mapping):
        problem = f"{record.place} holds {_short(value)}, not a text or an object with a prompt"
        return BadRow(_digest(repr(value)), problem)
    given = cast("Mapping[Any, Any]", value)
    # NaN is how pandas writes that a cell is empty.
    fields = {
        str(k): None if isinstance(v, float) and math.isnan(v) else v for k, v in given.items()
    }
    columns = {name: _plain(v) for name, v in fields.items() if name != "id"}
    row_id = None
    try:
        row_id = _given_id(fields)
        conversation = _conversation(fields)
        settings = _settings(fields)
    except ConfigurationError as e:
        return BadRow(row_id or _digest(repr(fields)), f"{record.place}: {e}", columns)
    return Row(row_id or conversation_key(conversation)[:_DIGITS], conversation, settings, columns)


def _given_id(fields: Mapping[str, Any]) -> str | None:
    given = fields.get("id")
    if given is None or given == "":
        return None
    if isinstance(given, float) and given.is_integer():  # pandas, where a column has a hole
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise ConfigurationError(f"id={_short(given)} must be a text or a whole number")
    return _sound("id", str(given))


def _conversation(fields: Mapping[str, Any]) -> list[Turn]:
    prompt, messages, system = (fields.get(name) for name in ("prompt", "messages", "system"))
    if prompt is not None and messages is not None:
        raise ConfigurationError("it has both a prompt and messages: give one of them")
    if prompt is None and messages is None:
        known = ", ".join(repr(k) for k, v in fields.items() if v is not None) or "nothing"
        raise ConfigurationError(f"it has neither a prompt nor messages, but {known}")
    if prompt is None:
        conversation = _turns("messages", _parsed(messages))
    elif isinstance(prompt, str):
        conversation = [Turn(role="user", content=prompt)]
    else:
        conversation = _turns("prompt", prompt)
    if system is not None:
        if not isinstance(system, str):
            raise ConfigurationError(f"system={_short(system)} must be a text")
        if conversation[0]["role"] == "system":
            raise ConfigurationError("it has a system prompt twice: in system and in its messages")
        conversation = [Turn(role="system", content=system), *conversation]
    for turn in conversation:
        _sound(f"what the {turn['role']} says", turn["content"])
    if (last := conversation[-1]["role"]) != "user":
        raise ConfigurationError(f"its last message is the {last}'s: there is nothing to answer")
    asked(conversation[-1]["content"])
    return conversation


def _parsed(messages: Any) -> Any:
    if not isinstance(messages, str):
        return messages
    try:
        return json.loads(messages)  # as CSV holds them
    except ValueError as e:
        raise ConfigurationError(f"messages={_short(messages)} is not a JSON list: {e}") from e


def _turns(name: str, given: Any) -> list[Turn]:
    """OpenAI's form of a conversation as turns of text."""
    if not isinstance(given, list | tuple) or not given:
        raise ConfigurationError(f"{name}={_short(given)} must be a text or a list of messages")
    messages: list[dict[str, Any]] = []
    for message in cast("list[Any]", given):
        if not isinstance(message, Mapping) or "role" not in message:
            raise ConfigurationError(
                f'{name} must be objects such as {{"role": "user", "content": "..."}}, '
                f"not {_short(message)}"
            )
        # Parquet gives every message all the keys that any of them has.
        some = {k: v for k, v in cast("Mapping[str, Any]", message).items() if v is not None}
        content = some.setdefault("content", "")
        if not isinstance(content, str | list):
            raise ConfigurationError(f"content={_short(content)} must be a text")
        for part in cast("list[Any]", content) if isinstance(content, list) else []:
            kind = part if isinstance(part, str) else cast("dict[str, Any]", part).get("type")
            if kind != "text" and not isinstance(part, str):
                raise ConfigurationError(f"{name} hold {kind!r}, and only text can be answered")
        messages.append(some)
    try:
        return turns(convert_to_messages(messages))
    except (ValueError, TypeError, KeyError, NotImplementedError) as e:
        said = str(e).strip().partition("\n")[0]
        raise ConfigurationError(f"{name} are not a conversation: {said}") from e


def _settings(fields: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: fields[name] for name in ROW_SETTINGS if fields.get(name) is not None}
    if "criteria" in given and isinstance(given["criteria"], str):
        _sound("criteria", given["criteria"])
    if not given:
        return {}
    return TPOContext.checked(given).model_dump(mode="json", include=set(given))


def _sound(name: str, text: str) -> str:
    """The text itself; refuses NUL and half a character, which no model or database takes."""
    if "\0" in text:
        raise ConfigurationError(f"{name} contains a NUL character at {text.index(chr(0))}")
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise ConfigurationError(f"{name} is not UTF-8 text at character {e.start}") from e
    return text


def _plain(value: Any) -> Any:
    """The value as JSON has it; what JSON has no word for, as text."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in cast("list[Any]", value)]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
