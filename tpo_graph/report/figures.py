"""Tables, and charts with what is said beside them; `parts.html` shows both."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tpo_graph.report.svg import Drawing, chart

if TYPE_CHECKING:
    from markupsafe import Markup


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


@dataclass(frozen=True)
class Figure:
    """A chart with its heading, a caption, and the numbers for those who cannot see it."""

    title: str
    svg: "Markup"
    caption: str
    content: Table
    legend: list[tuple[str, str]]
    """(label, CSS class of the colour); empty where one series says it all."""


def figure(
    drawing: Drawing,
    *,
    name: str,
    title: str,
    description: str,
    caption: str,
    content: Table,
    legend: Sequence[tuple[str, str]] = (),
) -> Figure:
    """Draw it: see `svg.chart`.

    Raises:
        ConfigurationError: matplotlib is missing.
    """
    return Figure(
        title=title,
        svg=chart(drawing, name=name, title=title, description=description),
        caption=caption,
        content=content,
        legend=list(legend),
    )
