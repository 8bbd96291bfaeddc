"""The picture in docs/architecture.md is the contract, and the files it names are there."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_picture_is_the_layers_contract():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = (c for c in project["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    assert contract["exhaustive"]
    floors = [re.split(r"\s*:\s*", layer.strip()) for layer in contract["layers"]]
    picture = re.search(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert picture is not None
    assert [line.split(" · ") for line in picture[1].splitlines()] == floors
    assert len(floors) <= 9


def test_every_file_that_the_page_names_is_there():
    names = re.findall(r"`([\w/*]+(?:\.py|/))`", PAGE)
    assert len(names) > 20
    for name in names:
        assert [*ROOT.glob(f"tpo_graph/{name}"), *ROOT.glob(name)], name
