"""The README's Python runs as it stands, and its links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
LINKS = re.findall(r"\]\(([^)#]+)\)", README)


@pytest.mark.parametrize("code", PYTHON)
def test_python_blocks_run(code: str, capsys: pytest.CaptureFixture[str]):
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out


@pytest.mark.parametrize("link", [link for link in LINKS if "://" not in link])
def test_links_lead_somewhere(link: str):
    assert (ROOT / link).exists()
