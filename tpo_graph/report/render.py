"""HTML from templates: every text is escaped, and what cannot be seen in it is named.

The pages of `tpo view` are made of them. A page's own script builds elements
from the JSON of `plain`, with `createElement` and text nodes only.
"""

import re
from functools import cache
from html.parser import HTMLParser
from math import floor, log10
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeAlias

from tpo_graph.extras import extra
from tpo_graph.report.elements import one_line, visible
from tpo_graph.report.figures import number

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

Node: TypeAlias = "list[Any] | str"
"""A text, or `[tag, attributes, children]`."""

_VOID = {"br", "input", "link", "meta"}
_CASED = {"viewbox": "viewBox", "clippath": "clipPath"}
"""Names that SVG tells apart by their case, and HTML's parser does not."""


def render(template: str, **values: Any) -> "Markup":
    """What a template makes of these values.

    Raises:
        ConfigurationError: jinja2 is missing.
    """
    found = environment().get_template(template)
    return _markup(found.render(values))


def macros(template: str) -> Any:
    """The macros of a template, as functions that return markup.

    Raises:
        ConfigurationError: jinja2 is missing.
    """
    return environment().get_template(template).module


@cache
def environment() -> "Environment":
    """Where the templates are, and how texts get into them.

    Raises:
        ConfigurationError: jinja2 is missing.
    """
    with extra("report", "a report"):
        from jinja2 import Environment, PackageLoader, StrictUndefined
    made = Environment(
        loader=PackageLoader("tpo_graph.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    filters: dict[str, Any] = made.filters
    for each in (duration, money, number, one_line, short_name):
        filters[each.__name__] = each
    return made


def _markup(source: str) -> "Markup":
    from markupsafe import Markup

    return Markup(source)


def _shown(value: Any) -> Any:
    # Markup is escaped already, and its own texts have been through here.
    return visible(value) if type(value) is str else value


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


def plain(markup: str) -> list[Node]:
    """The elements of a template's own markup, as JSON values."""
    parser = _Elements()
    parser.feed(markup)
    parser.close()
    return parser.found


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Node] = []
        self._open: list[list[Node]] = [self.found]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {_CASED.get(name, name): value or "" for name, value in attrs}
        element: Node = [tag, attributes, []]
        self._open[-1].append(element)
        if tag not in _VOID:
            self._open.append(element[2])

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].append(data)
