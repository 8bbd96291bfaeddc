"""What `tpo check` shows: the table of findings, and progress while they are made."""

import sys
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

from rich.table import Table
from rich.text import Text

from tpo_graph.check import Finding
from tpo_graph.cli.display import Console, console

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "skip": "dim"}


@contextmanager
def progress() -> Generator[Callable[[str], None]]:
    """A line on standard error that says what was checked last; none without a terminal."""
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status("checking") as status:
        yield lambda text: status.update(Text(text))


def print_findings(findings: Sequence[Finding]) -> None:
    """The table, on standard output, and how many findings there are of each kind."""
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    table = Table("part", "check", "result", "seen", box=None, pad_edge=False)
    part = ""
    for finding in findings:
        table.add_row(
            "" if finding.part == part else finding.part,
            finding.name,
            Text(finding.status, style=_STYLES[finding.status]),
            Text(finding.detail),  # never as markup: a model's words may stand in it
        )
        part = finding.part
    out.print(table)
    counts = Counter(finding.status for finding in findings)
    out.print(", ".join(f"{counts[status]} {status}" for status in _STYLES if counts[status]))
