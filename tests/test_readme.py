"""The README's Python runs as it stands; links of all pages lead somewhere, to a heading too."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.openai_server import Behaviour, Call, OpenAIServer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
PAGES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.md", "llms.txt", "docs/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)


def verdict(call: Call) -> Behaviour | None:
    """The judge's reply: the longer the better."""
    if call.params["model"] != "gpt-4o":
        return None
    grade = min(10, len(call.messages[-1]["content"]) // 100)
    scores = dict.fromkeys(("correct", "helpful", "clear"), max(1, grade))
    return Behaviour(contents=[json.dumps({"reasons": "Length.", "scores": scores})])


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenAIServer]:
    with OpenAIServer(rule=verdict) as server:
        yield server


@pytest.mark.parametrize("code", PYTHON)
def test_python_blocks_run(
    code: str,
    provider: OpenAIServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    exec(compile(code, "README.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path):
    text = without_code((ROOT / page).read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def anchors(page: Path) -> list[str]:
    """What GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", without_code(page.read_text("utf-8")), flags=re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings]


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
