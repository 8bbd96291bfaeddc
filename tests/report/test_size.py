"""A report of 1,000 D2-N5 runs: under 20 MB, and open within 3 seconds."""

from pathlib import Path

import pytest

from benchmarks.report_size import fill, opening
from tests.report.chromium import no_chromium
from tpo_graph.report import write_report


@pytest.mark.slow
def test_a_thousand_runs(tmp_path: Path):
    database = f"sqlite:///{tmp_path / 'tpo.db'}"
    fill(database, 1000)
    file = tmp_path / "report.html"
    (series,) = write_report([], file, database=database, limit=1000).series
    assert len(series.counted) == 1000
    assert all(run.details for run in series.runs)
    assert file.stat().st_size < 20e6
    if reason := no_chromium():
        pytest.skip(f"not opened: {reason}")
    assert min(opened + shown for opened, shown in opening(file)) < 3
