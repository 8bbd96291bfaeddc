"""HTML from templates: every text is escaped, and what cannot be seen in it is named.

Reports and the pages of `tpo view` are made of the same templates. A page's own script builds
elements from the JSON of `plain`, with `createElement` and text nodes only.
"""

from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias
from xml.etree import ElementTree

from tpo_graph.extras import extra
from tpo_graph.report.wording import (
    between,
    duration,
    money,
    number,
    one_line,
    percent,
    short_name,
    visible,
    whole,
)

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

Node: TypeAlias = "list[Any] | str"
"""A text, or `[tag, attributes, children]`."""


def render(template: str, **values: Any) -> "Markup":
    """What a template makes of these values.

    Raises:
        ConfigurationError: jinja2 is missing.
    """
    return trusted(environment().get_template(template).render(values))


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
    for each in (between, duration, money, number, one_line, percent, short_name, whole):
        filters[each.__name__] = each
    return made


def trusted(source: str) -> "Markup":
    """Markup of our own making, in which every foreign text is escaped already."""
    from markupsafe import Markup

    return Markup(source)


def _shown(value: Any) -> Any:
    # Markup is escaped already, and its own texts have been through here.
    return visible(value) if type(value) is str else value


def plain(markup: str) -> list[Node]:
    """The elements of a template's own markup, which is well-formed XML, as JSON values."""
    root = ElementTree.fromstring(f"<all>{markup}</all>")
    return _children(root)


def _children(element: ElementTree.Element) -> list[Node]:
    found: list[Node] = [element.text] if element.text else []
    for child in element:
        found.append([child.tag, dict(child.attrib), _children(child)])
        if child.tail:
            found.append(child.tail)
    return found
