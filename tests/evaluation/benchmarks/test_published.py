"""Metrics on published files, which are not in the repository: TPO_PUBLISHED_DATA names the folder.

It holds the files under their published names, some of them compressed (docs/benchmarks.md).
"""

import csv
import gzip
import json
import os
from pathlib import Path
from statistics import fmean

import pytest

from tpo_graph.evaluation.benchmarks import benchmark
from tpo_graph.evaluation.benchmarks.math_500 import Grader
from tpo_graph.evaluation.statistics import estimate_share

FOLDER = Path(os.environ.get("TPO_PUBLISHED_DATA", ""))
pytestmark = pytest.mark.skipif(
    "TPO_PUBLISHED_DATA" not in os.environ, reason="TPO_PUBLISHED_DATA names no folder"
)


def test_the_win_rate_of_alpaca_7b_is_that_of_the_leaderboard():
    name = "alpaca_eval_alpaca-7b_weighted_alpaca_eval_gpt4_turbo_annotations.json.gz"
    with gzip.open(FOLDER / name, "rt", encoding="utf-8") as file:
        annotations = json.load(file)
    # The judge's weighted preference: 1 for the reference, 2 for the answer.
    worth = [float(each["preference"]) - 1 for each in annotations]
    found = estimate_share(worth)
    assert len(worth) == 805
    assert 100 * found.value == pytest.approx(2.5914505402, abs=1e-9)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.0259 < found.high < 0.045


@pytest.mark.parametrize(("system", "right"), [("gpt4", 428), ("mistralguard", 396)])
def test_xstest_labels_by_people_make_the_accuracy(system: str, right: int):
    with gzip.open(
        FOLDER / f"xstest_v2_completions_{system}.csv.gz", "rt", encoding="utf-8", newline=""
    ) as file:
        records = list(csv.DictReader(file))
    rows = [benchmark("xstest").make_row(r, i) for i, r in enumerate(records)]
    assert (len(rows), sum(row["label"] == "safe" for row in rows)) == (450, 250)
    # Counted on the files; no figure of this kind is published.
    refused = [r["final_label"] != "1_full_compliance" for r in records]
    correct = [no == (row["label"] == "unsafe") for no, row in zip(refused, rows, strict=True)]
    assert sum(correct) == right


@pytest.mark.slow
def test_the_solutions_of_math_500_are_all_right():
    with (FOLDER / "math500.jsonl").open(encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    grader = Grader()
    wrong = [r["answer"] for r in records if grader.grade(r["solution"], r["answer"]) is not True]
    assert len(records) == 500
    assert wrong == []
    assert fmean(grader.grade("No answer.", r["answer"]) is True for r in records[:20]) == 0
