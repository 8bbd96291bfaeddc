"""How texts and numbers are written on a page: what cannot be seen is named, lines are cut."""

import re
import textwrap
from math import floor, log10
from pathlib import PurePath

from tpo_graph.conversation import well_formed
from tpo_graph.evaluation.results import Estimate

_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")
"""Control characters but tab and newline, those that reorder the text around them, and the two of
no meaning that XML refuses."""


def visible(text: str) -> str:
    """The text with its control characters as pictures (␛) or names ([U+202E])."""
    text = well_formed(text).replace("\r\n", "\n")
    return _INVISIBLE.sub(lambda match: _name(ord(match[0])), text)


def _name(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"[U+{code:04X}]"


def one_line(text: str, most: int) -> str:
    """The text on one line, cut to at most `most` characters."""
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else line[: most - 1] + "…"


def in_lines(text: str, width: int) -> str:
    """A label of a chart in lines of at most `width` characters.

    Where two names do not fit on one line, the second begins a line. Only what is longer than six
    lines is cut.
    """
    found: list[str] = []
    for line in text.split("\n"):
        parts = [line] if len(line) <= width else line.replace(" – ", " –\n").split("\n")
        found += [
            short for part in parts for short in textwrap.wrap(one_line(part, 6 * width), width)
        ]
    return "\n".join(found)


def number(value: float | None, *, signed: bool = False) -> str:
    """A reward or a difference of rewards; "-" for none."""
    if value is None:
        return "-"
    decimals = 3 if abs(value) < 100 else 1
    rounded = round(value, decimals) + 0.0  # no "-0"
    return f"{rounded:+,.{decimals}f}" if signed else f"{rounded:,.{decimals}f}"


def whole(value: float | None, *, signed: bool = False) -> str:
    """A count, or a mean of counts, without decimals; "-" for none."""
    if value is None:
        return "-"
    return f"{round(value):+,}" if signed else f"{round(value):,}"


def between(estimate: Estimate | None, *, signed: bool = False, count: bool = False) -> str:
    """The mean with its interval: "1.234 [1.100, 1.350]"."""
    if estimate is None:
        return "-"
    say = whole if count else number
    mean = say(estimate.value, signed=signed)
    if estimate.low is None:
        return mean
    return f"{mean} [{say(estimate.low, signed=signed)}, {say(estimate.high, signed=signed)}]"


def probability(value: float | None) -> str:
    """A p value; "-" for none."""
    if value is None:
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def percent(estimate: Estimate | None) -> str:
    """A share with its interval, in percent: "54.2% [41.0%, 66.8%]"."""
    if estimate is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.1%}"
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"


def duration(seconds: float) -> str:
    """Seconds as people say them: "4.2 s", "3 min 05 s", "2 h 07 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def money(value: float | None, currency: str = "") -> str:
    """An amount with three digits that count; "-" for none."""
    if value is None:
        return "-"
    decimals = 2 if value >= 1 or value == 0 else min(8, 2 - floor(log10(value)))
    return f"{value:,.{decimals}f} {currency}".strip()


def short_name(name: str) -> str:
    """The name of a model, a batch or a comparison without the folder it is in."""
    kind, _, path = name.rpartition(":")
    path = re.sub(r"@[0-9a-f]{12,}$", "", path)
    if "/" not in path or not path.startswith(("/", ".", "~")):
        return f"{kind}:{path}" if kind else path
    return f"{kind}:{PurePath(path).name}" if kind else PurePath(path).name
