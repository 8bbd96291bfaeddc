"""One HTML file about runs, a batch or a comparison: pictures, tables and every trajectory."""

from tpo_graph.report.writing import awrite_report, write_report

__all__ = ["awrite_report", "write_report"]
