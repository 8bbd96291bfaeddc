"""From names, functions and objects to reward models."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reward_server import RewardServer
from tests.tiny_models import classifier
from tpo_graph.conversation import Turn
from tpo_graph.errors import ConfigurationError, RewardError
from tpo_graph.rewards import (
    FunctionReward,
    LocalRewardModel,
    as_reward_model,
    load_reward_model,
)
from tpo_graph.rewards.served import parse_served


class Own:
    name = "own"

    async def score(self, conversation, responses):
        return [0.0 for _ in responses]


def test_a_name_a_function_or_a_model():
    own = Own()
    assert as_reward_model(own) is own
    assert isinstance(as_reward_model(lambda q, r: 1.0), FunctionReward)
    assert isinstance(as_reward_model(f"local:{classifier()}"), LocalRewardModel)


@pytest.mark.parametrize("what", [3, None, Own, object()])
def test_anything_else_is_refused(what):
    with pytest.raises(ConfigurationError, match="not a reward model"):
        as_reward_model(what)


def test_a_class_is_told_to_be_one_and_a_name_must_be_text():
    with pytest.raises(ConfigurationError, match="It is a class: give an object of it"):
        as_reward_model(Own)

    class Numbered(Own):
        name = 3

    with pytest.raises(ConfigurationError, match="has the name 3, and needs one that is text"):
        as_reward_model(Numbered())


def test_loaded_once_per_process_also_from_several_threads():
    name = f"local:{classifier('llama', seed=7)}"
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(load_reward_model, [name] * 4))
    assert all(model is models[0] for model in models)


@pytest.mark.parametrize("name", ["locl:somewhere", "local:", "somewhere", ""])
def test_an_unknown_kind_lists_the_known_ones(name):
    with pytest.raises(ConfigurationError, match=r"local:\.\.\.") as caught:
        load_reward_model(name)
    assert repr(name) in str(caught.value)


def test_servers_by_name_with_tokenizer_and_key(monkeypatch):
    folder = classifier()
    with RewardServer("vllm", folder, api_key="sk-canary") as server:
        name = f"vllm:{server.url}?tokenizer={folder}#rm"
        asked = [Turn(role="user", content="Foxes or dogs?")]
        with pytest.raises(RewardError, match="Check the API key"):
            asyncio.run(load_reward_model(name).score(asked, ["Dogs."]))
        monkeypatch.setenv("VLLM_API_KEY", "sk-canary")
        model = load_reward_model(name)
        assert len(asyncio.run(model.score(asked, ["Dogs."]))) == 1
        assert load_reward_model(name) is model
        assert "input" in server.calls[-1][1]
    assert load_reward_model(f"sglang:http://localhost:1#{folder}").name.startswith(
        f"sglang:http://localhost:1#{folder}@"
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vllm:http://me:secret@localhost:8000", "no model is named"),
        ("vllm:http://me:secret@localhost:8000#", "no model is named"),
        ("vllm:http://me:secret@localhost:8000?token=x#rm", r"options \['token'\]"),
        ("vllm:http://me:secret@localhost:8000?tokenizer=#rm", "empty options"),
        ("vllm:http://me:secret@localhost:8000?tokenizer#rm", "not the address|empty options"),
        ("vllm:me:secret@localhost#rm", "is a URL such as"),
        ("sglang:http://me:secret@localhost:8000#no/such/folder/here", "no model at"),
        ("vlm:http://me:secret@localhost:8000#rm", "unknown reward model 'vlm:...'"),
        ("judge:nobody:model", "nobody"),
        ("ensemble:/no/such.toml", "cannot be read"),
    ],
)
def test_a_wrong_name_is_explained_without_showing_a_password(name, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_reward_model(name)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_after_a_scheme_is_a_name_or_a_configuration_error(text):
    for scheme in ("vllm", "sglang"):
        try:
            served = parse_served(text, scheme)
        except ConfigurationError:
            continue
        assert served.model


ENSEMBLE = '[[member]]\nreward_model = "{}"\nmean = 0.0\nstd = 1.0\n'


@pytest.mark.parametrize("other", ["./one.toml", "./../{folder}/one.toml", "./two.toml"])
def test_a_file_that_is_part_of_itself_is_one_clear_error(tmp_path, other):
    other = other.format(folder=tmp_path.name)
    (tmp_path / "one.toml").write_text(ENSEMBLE.format(f"ensemble:{other}"))
    (tmp_path / "two.toml").write_text('coefficient = 1\nreward_model = "ensemble:./one.toml"')
    if "two" in other:
        (tmp_path / "one.toml").write_text(ENSEMBLE.format("length-penalty:./two.toml"))
    for _ in range(2):  # and a failure is not remembered
        with pytest.raises(ConfigurationError, match=r"part of itself: .*one\.toml' -> ") as caught:
            load_reward_model(f"ensemble:{tmp_path / 'one.toml'}")
        assert caught.value.__cause__ is None
    (tmp_path / "one.toml").write_text(ENSEMBLE.format(f"local:{classifier()}"))
    assert load_reward_model(f"ensemble:{tmp_path / 'one.toml'}")


def test_one_model_may_be_a_part_twice(tmp_path):
    part = tmp_path / "part.toml"
    part.write_text(f'coefficient = 0.01\nreward_model = "local:{classifier()}"')
    both = ENSEMBLE.format("length-penalty:./part.toml") * 2
    (tmp_path / "both.toml").write_text(both)
    assert "-of-2@" in load_reward_model(f"ensemble:{tmp_path / 'both.toml'}").name
