"""`comparison.json`: what is written is read back; what is not one is refused in a sentence."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.evaluation.values import full_comparison
from tpo_graph.errors import ConfigurationError
from tpo_graph.evaluation.results import FILE, dump, load, to_json


def test_what_is_written_is_read_back(tmp_path: Path):
    comparison = full_comparison()
    folder = tmp_path / "new" / "folder"
    file = dump(comparison, folder)
    assert load(folder) == load(file) == comparison
    dump(replace(comparison, name="again"), folder)
    assert load(folder).name == "again"
    assert [path.name for path in folder.iterdir()] == [FILE]
    assert comparison.result("tpo").finished == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:-40], "is not JSON"),
        (lambda text: "[1]", 'has no "format"'),
        (lambda text: text.replace('"format": 1', '"format": 99'), "reads up to 1: upgrade"),
        (lambda text: text.replace('"width": 5', '"width": "five"'), "methods.0.method.width"),
        (lambda text: text.replace('"reward_model"', '"r"'), "reward_model: Field required"),
    ],
)
def test_a_file_that_is_not_one_is_refused(tmp_path: Path, change, said: str):
    file = tmp_path / FILE
    file.write_text(change(to_json(full_comparison())), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=said) as caught:
        load(tmp_path)
    assert repr(str(file)) in str(caught.value)


def test_no_file_and_no_place_to_write_one(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="no comparison at"):
        load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        dump(full_comparison(), tmp_path / "file")
