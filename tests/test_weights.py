"""What cannot be loaded says so in one line; what would run foreign code is refused."""

import json
import shutil
from pathlib import Path

import pytest

from tests.tiny_models import causal_lm
from tpo_graph.errors import ConfigurationError
from tpo_graph.local import weights

CAUSAL = "AutoModelForCausalLM"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(causal_lm(), tmp_path / "model"))


def load(folder: Path) -> weights.Pretrained:
    return weights.load(str(folder), CAUSAL, weights.Options())


def test_only_pickled_weights_are_refused(folder: Path):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ConfigurationError, match=r"only pickled weights \('pytorch_model.bin'\)"):
        load(folder)


def test_no_weights_at_all(folder: Path):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigurationError, match="holds no weights"):
        load(folder)


@pytest.mark.parametrize(
    "source", ["/no/such/folder", "~/no-such", "./no-such", "bare-name", "a/b/c"]
)
def test_neither_a_folder_nor_a_hub_id(source: str):
    with pytest.raises(ConfigurationError) as caught:
        weights.resolve(source)
    assert repr(source) in str(caught.value)


def test_a_file_is_not_a_model(folder: Path):
    with pytest.raises(ConfigurationError, match="is a file"):
        weights.resolve(str(folder / "config.json"))


def test_a_relative_folder_resolves_to_the_same_model(folder: Path, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert weights.resolve("model") == str(folder) == weights.resolve("./model/")


def test_an_unreachable_hub_is_one_line_with_the_cause(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ConfigurationError, match=r"cannot load 'no/such'.*Check the name"
    ) as caught:
        weights.load("no/such", CAUSAL, weights.Options())
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_a_broken_folder_is_one_line(folder: Path):
    (folder / "config.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"cannot load .*save_pretrained") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_code_of_the_repository_does_not_run_unasked(folder: Path):
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "foreign"
    config["auto_map"] = {"AutoConfig": "code.Config", CAUSAL: "code.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('foreign code ran')")
    with pytest.raises(ConfigurationError, match="trust_remote_code=True"):
        load(folder)


def test_loading_from_a_folder_prints_no_progress(folder: Path, capfd):
    load(folder)
    assert "%" not in capfd.readouterr().err
