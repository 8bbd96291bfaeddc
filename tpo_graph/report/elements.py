"""HTML as values: what the report is made of, written out as markup or as JSON.

A text is a text until the moment it is written: nothing a model said can become markup. The page's
own script builds the same elements from the JSON, with `createElement` and text nodes only.
"""

import re
from collections.abc import Iterator
from html import escape
from typing import NamedTuple, TypeAlias

from tpo_graph.conversation import well_formed

Node: TypeAlias = "Element | str"


class Element(NamedTuple):
    """One element; in JSON `[tag, attributes, children]`."""

    tag: str
    attributes: dict[str, str]
    children: "list[Node]"


_VOID = {"br", "input", "link", "meta"}
_VERBATIM = {"script", "style"}
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff]")
"""Control characters but tab and newline, and those that reorder the text around them."""


def h(tag: str, /, *children: "Node | None", **attributes: str | int | None) -> Element:
    """An element.

    Args:
        children: elements and texts; None stands for nothing.
        attributes: None leaves one out, "" writes its name alone; `class_` and `for_` lose their
            underscore at the end, other underscores become hyphens.
    """
    return Element(
        tag,
        {
            name.rstrip("_").replace("_", "-"): str(value)
            for name, value in attributes.items()
            if value is not None
        },
        [child for child in children if child is not None],
    )


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


def markup(node: Node) -> Iterator[str]:
    """HTML source, piece by piece.

    Raises:
        ValueError: a script or style holds what would end it.
    """
    if isinstance(node, str):
        yield escape(visible(node), quote=False)
        return
    yield f"<{node.tag}"
    for name, value in node.attributes.items():
        yield f' {name}="{escape(visible(value))}"' if value else f" {name}"
    yield ">"
    if node.tag in _VOID:
        return
    for child in node.children:
        if isinstance(child, str) and node.tag in _VERBATIM:
            if "</" in child or "<!--" in child:
                raise ValueError(f"this would end a {node.tag} element: {child[:80]!r}")
            yield child
        else:
            yield from markup(child)
    yield f"</{node.tag}>"


def plain(node: Node) -> object:
    """The same as JSON values: a string, or `[tag, attributes, children]`."""
    if isinstance(node, str):
        return visible(node)
    attributes = {name: visible(value) for name, value in node.attributes.items()}
    return [node.tag, attributes, [plain(child) for child in node.children]]
