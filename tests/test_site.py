"""The docs site: every page is in it, it builds without a warning, and it asks no other host."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "docs" / "site" / "mkdocs.yml"
LOADED = re.compile(r"""(?:<script[^>]*\ssrc|<link[^>]*\shref|<img[^>]*\ssrc)=["']?(https?:)?//""")


def test_every_page_and_notebook_is_in_the_navigation():
    nav = CONFIG.read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = [*ROOT.glob("docs/*.md"), *ROOT.glob("examples/notebooks/*.ipynb")]
    names = [page.relative_to(ROOT).as_posix().replace(".ipynb", ".md") for page in pages]
    assert [name for name in names if f": {name}\n" not in nav] == []


def test_every_entry_of_the_reference_is_where_it_says():
    for page in CONFIG.parent.glob("pages/reference/*.md"):
        for name in re.findall(r"^::: (\S+)", page.read_text("utf-8"), flags=re.MULTILINE):
            module, _, member = name.rpartition(".")
            assert hasattr(import_module(module), member) or import_module(name), name


def test_the_picture_of_a_run_is_small_stands_alone_and_shows_what_the_readme_says():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (alt,) = re.findall(r"!\[([^\]]+)\]\(docs/images/run\.svg\)", readme)
    picture = (ROOT / "docs" / "images" / "run.svg").read_bytes()
    assert len(picture) < 100_000
    text = picture.decode().replace("&#160;", " ")
    assert re.findall(r"(?:https?:|url\(|@import|href)[^\s>]*", text) == [
        'http://www.w3.org/2000/svg"'
    ]
    for number in ("-0.13", "3.37"):
        assert number in alt
        assert number in text
    assert "All the best to you, Max!" in " ".join(re.sub("<[^>]+>", " ", text).split())


@pytest.mark.slow
def test_it_builds_without_a_warning_and_loads_nothing_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(CONFIG)]
    built = [*build, "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(built, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    pages = {path: path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html")}
    assert [path for path, text in pages.items() if LOADED.search(text)] == []
    reference = pages[tmp_path / "reference" / "running" / "index.html"]
    assert "max_in_flight" in reference
    notebook = pages[tmp_path / "examples" / "notebooks" / "3-compare-and-plot" / "index.html"]
    assert "data:image/png" in notebook
    assert "max_in_flight" in (tmp_path / "search" / "search_index.json").read_text("utf-8")
