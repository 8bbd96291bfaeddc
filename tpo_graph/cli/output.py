"""What commands print, made safe for a terminal: control characters are shown and do nothing.

What a model, a server or a file says could otherwise clear the screen, set the terminal's title or
hide what stands there.
"""

import json
import re
import sys
from datetime import datetime
from typing import Any

import click

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_CONTROL_IN_JSON = re.compile(r"[\x7f-\x9f]")


def visible(text: str) -> str:
    """A text whose control characters, all but tab and line end, are written as escapes."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text.replace("\r\n", "\n"))


def say(text: str) -> None:
    """A line for a person, on standard error."""
    click.echo(visible(text), err=True)


def print_answer(text: str) -> None:
    """An answer on standard output: as it is, but with visible escapes on a terminal."""
    # With color=True click takes nothing out of it.
    click.echo(visible(text) if sys.stdout.isatty() else text, color=True)


def print_json(value: Any, indent: int | None = None) -> None:
    """A value as JSON on standard output."""
    click.echo(as_json_text(value, indent))


def as_json_text(value: Any, indent: int | None = None) -> str:
    """A stored value as JSON; times in UTC, as ISO 8601."""
    return json_on_terminal(json.dumps(value, ensure_ascii=False, indent=indent, default=_plain))


def json_on_terminal(text: str) -> str:
    """The same JSON without the control characters that JSON itself leaves as they are."""
    return _CONTROL_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _plain(value: object) -> str:
    assert isinstance(value, datetime)
    return value.isoformat(timespec="seconds") + "Z"
