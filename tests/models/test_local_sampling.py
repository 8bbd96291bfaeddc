"""Drawing tokens: the distribution that temperature and top_p describe, exactly."""

import math

import pytest

torch = pytest.importorskip("torch")

from tpo_graph.errors import PolicyError  # noqa: E402
from tpo_graph.local.sampling import Sampling, draw  # noqa: E402


def frequencies(logits: list[float], temperature: float, top_p: float | None) -> list[float]:
    """How often each token is drawn over an even grid of uniform numbers."""
    count = 20_000
    uniform = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    sampling = Sampling(temperature=temperature, top_p=top_p, max_tokens=1, seed=None)
    drawn = draw(torch.tensor(logits).expand(count, -1), uniform, sampling)
    return (torch.bincount(drawn, minlength=len(logits)) / count).tolist()


def softmax(logits: list[float], temperature: float) -> list[float]:
    weights = [math.exp(logit / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_p", [None, 1.0])
def test_temperature_alone_is_the_softmax(temperature, top_p):
    logits = [0.0, 2.0, -1.0, 1.0]
    expected = softmax(logits, temperature)
    assert frequencies(logits, temperature, top_p) == pytest.approx(expected, abs=2e-4)


def test_top_p_keeps_the_smallest_set_that_reaches_it():
    probabilities = [0.15, 0.5, 0.05, 0.3]
    logits = [math.log(p) for p in probabilities]
    assert frequencies(logits, 1.0, 0.79) == pytest.approx([0, 0.625, 0, 0.375], abs=2e-4)
    assert frequencies(logits, 1.0, 0.3) == pytest.approx([0, 1, 0, 0], abs=2e-4)
    kept = [0.15 / 0.95, 0.5 / 0.95, 0, 0.3 / 0.95]
    assert frequencies(logits, 1.0, 0.9) == pytest.approx(kept, abs=2e-4)


def test_top_p_over_a_large_flat_vocabulary():
    sampling = Sampling(temperature=1.0, top_p=0.5, max_tokens=1, seed=None)
    uniform = torch.tensor([0.0, 0.999999], dtype=torch.float64)
    first, last = draw(torch.linspace(1e-3, 0, 8000).expand(2, -1), uniform, sampling).tolist()
    assert (first, last) == (0, pytest.approx(4000, abs=3))


@pytest.mark.parametrize("temperature", [None, 0, 0.0])
def test_no_temperature_is_greedy(temperature):
    sampling = Sampling(temperature=temperature, top_p=0.9, max_tokens=1, seed=None)
    assert draw(torch.tensor([[0.0, 3.0, 1.0]]), torch.tensor([0.99]), sampling).tolist() == [1]


def test_logits_that_are_no_numbers_are_an_error():
    sampling = Sampling(temperature=1.0, top_p=None, max_tokens=1, seed=None)
    with pytest.raises(PolicyError, match="NaN"):
        draw(torch.tensor([[0.0, float("nan")]]), torch.tensor([0.5]), sampling)
