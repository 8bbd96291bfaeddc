"""From a matplotlib drawing to inline SVG that follows the page's colours and font.

Colours of `COLOURS` become CSS variables, so that one drawing serves light and dark pages; texts
stay texts; inline styles, which the page's content security policy forbids, become attributes.
"""

import re
import warnings
from collections.abc import Callable
from io import StringIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from tpo_graph.extras import extra
from tpo_graph.report.elements import Element, Node, h

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, LINE, SURFACE = "#010101", "#010102", "#010103", "#010104"
SERIES = ["#0101a1", "#0101a2", "#0101a3", "#0101a4", "#0101a5", "#0101a6"]
"""Stand-ins: no other colour may be used in a drawing."""
COLOURS = {INK: "ink", MUTED: "muted", LINE: "line", SURFACE: "surface"} | {
    colour: f"series-{number}" for number, colour in enumerate(SERIES, 1)
}
WIDTH, HEIGHT = 384, 270
"""Of one chart, in CSS pixels at a scale of 1: about the width of a phone."""

_RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tpo",
    "text.parse_math": False,
    "font.size": 11.5,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 1.8,
    "axes.unicode_minus": True,
}
_KEPT = {
    "fill",
    "fill-opacity",
    "opacity",
    "stroke",
    "stroke-dasharray",
    "stroke-dashoffset",
    "stroke-linecap",
    "stroke-linejoin",
    "stroke-opacity",
    "stroke-width",
    "font-size",
    "font-weight",
    "text-anchor",
}
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_NO_ROTATION = re.compile(r"rotate\(-0 [^)]*\)")


def chart(
    draw: "Callable[[Axes], None]", *, name: str, title: str, description: str, height: int = HEIGHT
) -> Element:
    """The SVG of one drawing.

    Args:
        draw: draws on the axes it is given.
        name: unique on the page; ids begin with it.
        title, description: what a screen reader says.
        height: in CSS pixels at a scale of 1.

    Raises:
        ConfigurationError: matplotlib is not installed.
    """
    with extra("report", "a chart"):
        from matplotlib import rc_context  # pyright: ignore[reportUnknownVariableType]
        from matplotlib.figure import Figure
    source = StringIO()
    with rc_context(_RC), warnings.catch_warnings():
        # Only the measuring of labels has no glyph: the browser has its own fonts.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        draw(figure.subplots())
        figure.savefig(source, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(ElementTree.fromstring(source.getvalue()), name, title, description)


def _inline(svg: ElementTree.Element, name: str, title: str, description: str) -> Element:
    children = [child for part in svg for child in _converted(part, name)]
    return h(
        "svg",
        h("title", title, id=f"{name}-title"),
        h("desc", description, id=f"{name}-desc"),
        *children,
        viewBox=svg.get("viewBox"),
        role="img",
        aria_labelledby=f"{name}-title",
        aria_describedby=f"{name}-desc",
    )


def _converted(part: ElementTree.Element, name: str) -> list[Node]:
    tag = part.tag.rpartition("}")[2]
    if tag in {"metadata", "style"}:
        return []
    children: list[Node] = [child for inner in part for child in _converted(inner, name)]
    if part.text and tag in {"text", "tspan"}:
        children.insert(0, part.text)
    attributes = _attributes(part, tag, name)
    if tag in {"g", "defs"} and not children:
        return []
    if tag == "g" and not attributes:
        return children
    return [Element(tag, attributes, children)]


def _attributes(part: ElementTree.Element, tag: str, name: str) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for key, value in part.attrib.items():
        key = key.rpartition("}")[2]
        if key == "style":
            attributes |= _style(value)
        elif key == "id":
            if tag != "g":
                attributes["id"] = f"{name}-{value}"
        elif key == "href":
            attributes["href"] = f"#{name}-{value.removeprefix('#')}"
        elif key == "clip-path":
            attributes["clip-path"] = value.replace("#", f"#{name}-")
        elif kept := _NO_ROTATION.sub("", value).strip():
            attributes[key] = _LONG_NUMBER.sub(_shorter, " ".join(kept.split()))
    return attributes


def _style(style: str) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for declaration in style.split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key in _KEPT:
            variable = COLOURS.get(value)
            attributes[key] = f"var(--{variable})" if variable else value
    return attributes


def _shorter(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
