"""Options win over the environment, and that over the file; names are the same in all three."""

from pathlib import Path

import pytest

from tpo_graph.context import RunOptions
from tpo_graph.errors import ConfigurationError
from tpo_graph.prompts import load_prompts
from tpo_graph.settings import Settings
from tpo_graph.strategies import named
from tpo_graph.strategies.methods import METHODS


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"TPO_{name.upper()}", raising=False)


def test_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    config = tmp_path / "tpo.toml"
    config.write_text("depth = 1\nwidth = 1\nseed = 1\n")
    monkeypatch.setenv("TPO_WIDTH", "2")
    monkeypatch.setenv("TPO_SEED", "2")
    settings = Settings.load({"seed": "3", "depth": None}, config)
    assert (settings.depth, settings.width, settings.seed) == (1, 2, 3)


def test_a_misspelt_variable_is_an_error_and_a_foreign_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("TPO_TENANT", "me")
    monkeypatch.setenv("TPO_SERVE_PORT", "8100")
    assert Settings.load({}).depth == 2
    monkeypatch.setenv("TPO_DEPHT", "3")
    with pytest.raises(ConfigurationError, match=r"'TPO_DEPHT'.*did you mean 'TPO_DEPTH'\?"):
        Settings.load({})


@pytest.mark.parametrize("unset", ["none", "None", " NONE "])
def test_none_unsets_a_parameter_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unset: str
):
    config = tmp_path / "tpo.toml"
    config.write_text(f'temperature = "{unset}"\n')
    monkeypatch.setenv("TPO_TOP_P", unset)
    settings = Settings.load({"max_tokens": unset}, config)
    assert (settings.temperature, settings.top_p, settings.max_tokens) == (None, None, None)


def test_paths_in_the_file_are_relative_to_it(tmp_path: Path):
    (tmp_path / "sub").mkdir()
    config = tmp_path / "sub" / "tpo.toml"
    config.write_text(
        'model = "local:./policy"\nreward_model = "local:org/name"\nprompts = "../prompts"\n'
    )
    settings = Settings.load({}, config)
    assert settings.model == f"local:{tmp_path}/sub/policy"
    assert settings.reward_model == "local:org/name"
    assert settings.prompts == f"{tmp_path}/prompts"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("depth = ", "cannot be read"),
        ("dept = 3", r"no setting 'dept' in '.*tpo\.toml'; did you mean 'depth'\?"),
        ('databse = "sqlite:///x.db"', "did you mean 'database'"),
        ("depth = -3", r"depth=-3 is not valid"),
        ('width = "wide"', r"width='wide' is not valid"),
    ],
)
def test_a_wrong_file_is_a_clear_error(tmp_path: Path, text: str, message: str):
    config = tmp_path / "tpo.toml"
    config.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        Settings.load({}, config)


def test_a_wrong_environment_is_a_clear_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TPO_DEPTH", "deep")
    with pytest.raises(ConfigurationError, match="depth='deep'"):
        Settings.load({})


def test_run_options_are_those_of_a_run():
    assert set(Settings.load({}).run_options()) == set(RunOptions.model_fields)


def test_the_database_is_called_as_its_option_in_a_file(tmp_path: Path):
    config = tmp_path / "tpo.toml"
    config.write_text('database = "sqlite:///mine.db"\n')
    assert Settings.load({}, config).database_url == "sqlite:///mine.db"


def test_a_method_is_its_settings_and_single_ones_of_the_same_place_win(tmp_path, monkeypatch):
    file = tmp_path / "tpo.toml"
    file.write_text('method = "rsa"\nprompts = "./mine"\nselect = "random-subset:4"\n')
    plain = Settings.load({}, file)
    assert (plain.prompts, plain.select) == (str(tmp_path / "mine"), "random-subset:4")
    given = Settings.load({"method": "knockout"}, file)
    assert (given.prompts, given.select, given.pick) == ("tpo", "pair", "knockout:4")
    monkeypatch.setenv("TPO_METHOD", "best-of-n")
    assert Settings.load({}, file).depth == 0
    assert Settings.load({"method": "fusion"}, file).select == "top-k:5"
    with pytest.raises(
        ConfigurationError, match=r"method='rs' is not a method: did you mean 'rsa'"
    ):
        Settings.load({"method": "rs"})


def test_every_method_can_be_loaded():
    for name in ["auto", *METHODS]:
        settings = Settings.load({"method": name})
        load_prompts(settings.prompts)
        for kind in ("select", "pick", "stop"):
            if value := getattr(settings, kind):
                assert named(kind, value).name
