"""The frame around a chart, and tables: how the report says numbers in words and columns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpo_graph.report.elements import Element, Node, h
from tpo_graph.report.svg import HEIGHT, chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Table:
    """Columns and rows of cells, as text."""

    columns: list[str]
    rows: list[list[str]]
    texts: int = 1
    """This many columns from the left are words; the rest are numbers, set to the right."""

    def without(self, column: str) -> "Table":
        """The table less a column of words."""
        place = self.columns.index(column)
        rows = [[*row[:place], *row[place + 1 :]] for row in self.rows]
        columns = [name for name in self.columns if name != column]
        return Table(columns, rows, self.texts - 1)


def number(value: float | None, *, signed: bool = False) -> str:
    """A reward or a difference of rewards; "-" for none."""
    if value is None:
        return "-"
    decimals = 3 if abs(value) < 100 else 1
    return f"{value:+,.{decimals}f}" if signed else f"{value:,.{decimals}f}"


def table(content: Table, label: str) -> Element:
    """The table in a box that scrolls sideways by itself, so that the page need not."""

    def cell(text: str, column: int) -> Element:
        if column < content.texts:
            scope = "row" if column == 0 else None
            return h("th" if column == 0 else "td", h("span", text, dir="auto"), scope=scope)
        return h("td", text, class_="n")

    head = [
        h("th", name, scope="col", class_=None if place < content.texts else "n")
        for place, name in enumerate(content.columns)
    ]
    rows = [h("tr", *(cell(text, place) for place, text in enumerate(row))) for row in content.rows]
    inner = h("table", h("thead", h("tr", *head)), h("tbody", *rows))
    return h("div", inner, class_="scroll", role="region", tabindex=0, aria_label=label)


def figure(
    draw: "Callable[[Axes], None]",
    *,
    name: str,
    title: str,
    description: str,
    caption: Node,
    content: Table,
    height: int = HEIGHT,
) -> Element:
    """A chart with its heading, a caption, and the numbers for those who cannot see it."""
    return h(
        "figure",
        h("h3", title),
        chart(draw, name=name, title=title, description=description, height=height),
        h("figcaption", caption),
        h(
            "details",
            h("summary", "Numbers"),
            table(content, f"{title}: numbers"),
            class_="numbers",
        ),
        class_="card",
    )


def cards(facts: Sequence[tuple[str, str, str | None]]) -> Element:
    """Key numbers: (what, value, a remark)."""
    return h(
        "dl",
        *(
            h(
                "div",
                h("dt", what),
                h("dd", value, class_="value"),
                h("dd", remark, class_="remark") if remark else None,
            )
            for what, value, remark in facts
        ),
        class_="cards",
    )
