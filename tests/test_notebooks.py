"""Every notebook runs from top to bottom, offline, and is stored with what it shows."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "examples" / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))
_OF_A_MACHINE = re.compile(r"/(home|tmp|root|usr|site-packages)/|[A-Z]:\\\\")


def shown(notebook: Any) -> list[set[str]]:
    """The kinds of output of each code cell."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    return [{kind for output in cell.outputs for kind in kinds(output)} for cell in cells]


def kinds(output: Any) -> list[str]:
    return list(output.get("data", {})) or [output.get("name", output.output_type)]


def test_there_are_four():
    assert len(NOTEBOOKS) == 4


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs_and_shows_what_is_stored(name: str):
    stored: Any = nbformat.read(FOLDER / name, as_version=4)
    assert not _OF_A_MACHINE.search((FOLDER / name).read_text(encoding="utf-8"))
    fresh: Any = nbformat.read(FOLDER / name, as_version=4)
    client = NotebookClient(
        fresh, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    )
    client.execute()  # an error in a cell is raised here
    assert shown(fresh) == shown(stored)
    assert not any("stderr" in kinds for kinds in shown(fresh))
    assert sum(map(bool, shown(stored))) >= 3
