"""Every example is short, runs offline as it stands, and shows what it claims."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
# Not a script: the server loads it (tests/studio)
LOADED = {"studio_auth.py"}
SHOWN = {
    "human_choice.py": [
        "chosen=7: there are candidates 1 to 3",
        "Are these the instructions to follow?",
        "Is this the answer?",
        "Answer! (",
    ],
    "agent_middleware.py": [
        "the client sees: Answer!!",
        "reward 13.0, written in iteration 2",
        "this once without TPO: Answer (",
    ],
    "subgraph.py": ["ask", "refine/sample", "refine/update", "refine", "Answer!"],
    "resume.py": ["failed: Answer", "with 1 call more", "written in iteration 3"],
    "chat_model.py": ["Answer!", "'total_tokens': ", "['Answer"],
}
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name not in LOADED)


@pytest.mark.parametrize("name", SCRIPTS)
def test_it_runs_and_shows_what_it_claims(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [name])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    printed = capsys.readouterr().out
    assert printed.strip()
    for line in SHOWN.get(name, []):
        assert line in printed


@pytest.mark.parametrize("name", [*SCRIPTS, *LOADED])
def test_it_is_short(name: str):
    assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) < 40
