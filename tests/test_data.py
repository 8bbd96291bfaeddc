"""Folders beside the code: a wheel's own come before whatever else stands beside the package."""

from pathlib import Path

import pytest

from tpo_graph.errors import ConfigurationError
from tpo_graph.files import shipped as data
from tpo_graph.files.shipped import data_folder


@pytest.mark.parametrize("name", ["prompts", "alembic"])
def test_a_checkout_has_them(name: str) -> None:
    assert data_folder(name).is_dir()


def test_a_wheel_prefers_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, library = tmp_path / "tpo_graph" / "_data" / "alembic", tmp_path / "alembic"
    for folder in (own, library):
        folder.mkdir(parents=True)
    monkeypatch.setattr(data, "_PACKAGE", tmp_path / "tpo_graph")
    assert data_folder("alembic") == own


def test_a_missing_folder_is_named() -> None:
    with pytest.raises(ConfigurationError, match="'nothing_of_that_name'"):
        data_folder("nothing_of_that_name")
