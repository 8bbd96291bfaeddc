"""docs/agents.md: its snippets run, one after the other, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"
TEXT = (DOCS / "agents.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


def test_snippets_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "docs_agents"}
    for snippet in SNIPPETS:
        exec(compile(snippet, "docs/agents.md", "exec"), names)  # noqa: S102
    assert capsys.readouterr().out.startswith("Answer!")


def test_links_lead_somewhere():
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in TEXT.splitlines()
        if line.startswith("#")
    }
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        if link.startswith("#"):
            assert link[1:] in headings
        else:
            assert (DOCS / link).exists()
