"""docs/batch.md: its snippets run, one after the other, and its tables name what there is."""

import json
import re
from pathlib import Path

import pytest

from tpo_graph.batch.output import RESULTS
from tpo_graph.rows import ROW_SETTINGS

TEXT = (Path(__file__).parent.parent.parent / "docs" / "batch.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


def test_snippets_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "docs_batch"}
    for snippet in SNIPPETS:
        exec(compile(snippet, "docs/batch.md", "exec"), names)  # noqa: S102
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2 answered, 0 failed, gain ")
    assert lines[1] == "colours 2 of 2"
    assert lines[3].endswith(" finished sea")
    rows = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    assert [row["iteration"] for row in rows] == [2, 1]


def test_every_column_is_named() -> None:
    for name in (*RESULTS, *ROW_SETTINGS, "prompt", "messages", "system", "audit"):
        assert re.search(rf"^\|[^|]*`{name}`", TEXT, flags=re.MULTILINE), name
