"""`write_report`: from a database to one HTML file."""

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from tpo_graph.concurrency.background import sync
from tpo_graph.costs import CostTable
from tpo_graph.files.replaced import replaced
from tpo_graph.report.data import Report
from tpo_graph.report.page import page
from tpo_graph.report.sources import Reader
from tpo_graph.store import DEFAULT_URL, open_store

LIMIT = 300
"""Trajectories of a report, unless told otherwise."""


async def awrite_report(
    targets: Sequence[str],
    output: str | Path,
    *,
    database: str = DEFAULT_URL,
    limit: int = LIMIT,
    costs: CostTable | None = None,
    command: str = "",
) -> Report:
    """Write one self-contained HTML file; whole or not at all.

    Args:
        targets: run ids or unique beginnings of them, batches by name or output file, folders of
            comparisons; none for the newest runs.
        output: the file.
        database: where the runs are.
        limit: maximum number of trajectories in the file; without targets, of runs.
        costs: prices and sizes of models (`tpo_graph.costs.read_costs`).
        command: what the page says it was written by.

    Returns:
        What the page shows.

    Raises:
        ConfigurationError: a target names nothing, the file cannot be written, or matplotlib is
            missing.
        StoreError: the database failed.
    """
    async with open_store(database) as store:
        report = await Reader(store, limit, costs).report(targets)
    report = replace(report, command=command, version=version("tpo-graph"))
    with replaced(output) as file:
        file.writelines(text.encode() for text in page(report))
    return report


write_report = sync(awrite_report)
"""Write a report and wait for it."""
