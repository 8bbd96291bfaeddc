"""From names, functions and objects to reward models."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.tiny_models import classifier
from tpo_graph.errors import ConfigurationError
from tpo_graph.rewards import (
    FunctionReward,
    LocalRewardModel,
    as_reward_model,
    load_reward_model,
)


class Own:
    name = "own"

    async def score(self, conversation, responses):
        return [0.0 for _ in responses]


def test_a_name_a_function_or_a_model():
    own = Own()
    assert as_reward_model(own) is own
    assert isinstance(as_reward_model(lambda q, r: 1.0), FunctionReward)
    assert isinstance(as_reward_model(f"local:{classifier()}"), LocalRewardModel)


@pytest.mark.parametrize("given", [3, None, Own, object()])
def test_anything_else_is_refused(given):
    with pytest.raises(ConfigurationError, match="not a reward model"):
        as_reward_model(given)


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
