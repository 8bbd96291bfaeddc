"""The README's Python runs as it stands, and its links lead somewhere."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.openai_server import Behaviour, Call, OpenAIServer

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"^```python\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
LINKS = re.findall(r"\]\(([^)#]+)\)", README)


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


@pytest.mark.parametrize("link", [link for link in LINKS if "://" not in link])
def test_links_lead_somewhere(link: str):
    assert (ROOT / link).exists()
