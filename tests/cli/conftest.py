"""Fixtures of the command line's tests."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # `tpo run` keeps its runs in tpo.db in the current folder.
    monkeypatch.chdir(tmp_path)
