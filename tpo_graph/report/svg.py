"""From a matplotlib drawing to inline SVG that follows the page's colours and font.

Colours of `COLOURS` become CSS variables, so that one drawing serves light and dark pages; texts
stay texts; inline styles, which the page's content security policy forbids, become attributes.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, Any, TypeAlias
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from tpo_graph.extras import extra
from tpo_graph.report.render import trusted
from tpo_graph.report.wording import visible

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes

Point: TypeAlias = "tuple[str, str]"
"""(where a click on a dot leads, what is said when the mouse rests on it)."""

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


@dataclass(frozen=True)
class Drawing:
    """What is drawn, and on what."""

    draw: "Callable[[Axes], None]"
    """Draws on the axes it is given."""
    height: int = HEIGHT
    """In CSS pixels at a scale of 1."""
    points: Mapping[str, Sequence[Point]] = field(default_factory=dict[str, Sequence[Point]])
    """For artists by their `gid`, a link per marker, in the order in which they are drawn. The
    keyboard reaches the same places through the list of queries."""


def chart(drawing: Drawing, *, name: str, title: str, description: str) -> "Markup":
    """The SVG of one drawing.

    Args:
        drawing: what to draw.
        name: unique on the page; ids begin with it.
        title, description: what a screen reader says.

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
        figure = Figure(figsize=(WIDTH / 72, drawing.height / 72), layout="constrained")
        drawing.draw(figure.subplots())
        figure.savefig(source, format="svg", metadata={"Date": None, "Creator": None})
    drawn = ElementTree.fromstring(source.getvalue())
    for part in drawn.iter():
        _link(part, drawing.points.get(part.get("id", ""), ()))
    labels = {"aria-labelledby": f"{name}-title", "aria-describedby": f"{name}-desc"}
    svg = Element("svg", {"viewBox": drawn.get("viewBox", ""), "role": "img", **labels})
    for tag, content in (("title", title), ("desc", description)):
        said = ElementTree.SubElement(svg, tag, {"id": f"{name}-{tag}"})
        said.text = visible(content)
    svg.extend(child for part in drawn for child in _converted(part, name))
    return trusted(ElementTree.tostring(svg, encoding="unicode", short_empty_elements=False))


def _link(part: Element, points: Sequence[Point]) -> None:
    """Put every marker of an artist into a link."""
    if not points:
        return
    parents = [each for each in part.iter() if any(_tag(child) == "use" for child in each)]
    left: Iterator[Point] = iter(points)
    for parent in parents:
        for place, marker in enumerate(list(parent)):
            if _tag(marker) == "use" and (point := next(left, None)) is not None:
                link = Element("a", {"href": point[0], "tabindex": "-1"})
                ElementTree.SubElement(link, "title").text = point[1]
                link.append(marker)
                parent[place] = link


def _tag(part: Element) -> str:
    return part.tag.rpartition("}")[2]


def _converted(part: Element, name: str) -> list[Element]:
    tag = _tag(part)
    if tag in {"metadata", "style"}:
        return []
    children = [child for inner in part for child in _converted(inner, name)]
    attributes = _attributes(part, tag, name)
    if tag in {"g", "defs"} and not children:
        return []
    if tag == "g" and not attributes:
        return children
    made = Element(tag, attributes)
    if part.text and tag in {"text", "tspan", "title"}:
        made.text = visible(part.text)
    made.extend(children)
    return [made]


def _attributes(part: Element, tag: str, name: str) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for key, value in part.attrib.items():
        key = key.rpartition("}")[2]
        if key == "style":
            attributes |= _style(value)
        elif key == "id":
            if tag != "g":
                attributes["id"] = f"{name}-{value}"
        elif key == "href":
            own = value if tag == "a" else f"#{name}-{value.removeprefix('#')}"
            attributes["href"] = own
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
