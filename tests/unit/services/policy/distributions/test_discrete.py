"""Against torch and RLlib: what a policy was trained with is what it is served with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical, TorchMultiCategorical
from scipy import stats

from services.policy.distributions.discrete import Bernoulli, Categorical, MultiCategorical
from services.policy.randomness import Draw, uniforms
from tests.unit.services.policy.distributions.spaces_of_parts import (
    discrete_space,
    multi_binary_space,
    multi_discrete_space,
)

GENERATOR = np.random.default_rng(3)
LOGITS = GENERATOR.normal(scale=3.0, size=(50, 6)).astype(np.float32)
SEEDS = [0, 7, 2**64 - 1]
COUNT = 20_000


def rows(row: list[float], count: int = COUNT) -> npt.NDArray[np.float32]:
    return np.repeat(np.array([row], np.float32), count, axis=0)


def noise(width: int, seed: int, count: int = COUNT) -> npt.NDArray[np.float64]:
    return uniforms([Draw(count, seed, 0)], width)


def rllib_places(logits: npt.NDArray[np.float32]) -> TorchMultiCategorical:
    return TorchMultiCategorical.from_logits(torch.from_numpy(logits), input_lens=[2, 4])


def test_the_greedy_draws_are_rllibs() -> None:
    expected = TorchCategorical.from_logits(torch.from_numpy(LOGITS)).to_deterministic().sample().numpy()
    np.testing.assert_array_equal(Categorical(discrete_space(6)).mode(LOGITS), expected)
    expected = rllib_places(LOGITS).to_deterministic().sample().numpy()
    np.testing.assert_array_equal(MultiCategorical(multi_discrete_space([2, 4])).mode(LOGITS), expected)


@pytest.mark.parametrize("shift", [0.0, 500.0, -500.0])
def test_a_categorical_log_probability_is_torchs(shift: float) -> None:
    logits = LOGITS + np.float32(shift)
    drawn = GENERATOR.integers(0, 6, size=len(LOGITS))
    found = Categorical(discrete_space(6)).log_probability(logits, drawn)
    expected = torch.distributions.Categorical(logits=torch.from_numpy(logits)).log_prob(torch.from_numpy(drawn))
    # Shifted logits have lost some digits before anybody looks at them.
    tolerance = 1e-5 if not shift else 2e-4
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=tolerance)
    rllib = TorchCategorical.from_logits(torch.from_numpy(logits)).logp(torch.from_numpy(drawn)).numpy()
    np.testing.assert_allclose(found, rllib, rtol=0, atol=tolerance)


def test_the_log_probability_of_several_places_is_rllibs() -> None:
    drawn = np.stack([GENERATOR.integers(0, 2, size=50), GENERATOR.integers(0, 4, size=50)], axis=1)
    found = MultiCategorical(multi_discrete_space([2, 4])).log_probability(LOGITS, drawn)
    np.testing.assert_allclose(found, rllib_places(LOGITS).logp(torch.from_numpy(drawn)).numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_a_bernoulli_log_probability_is_torchs(scale: float) -> None:
    logits = LOGITS * np.float32(scale)
    drawn = GENERATOR.integers(0, 2, size=LOGITS.shape)
    found = Bernoulli(multi_binary_space(6)).log_probability(logits, drawn.astype(bool))
    torchs = torch.distributions.Bernoulli(logits=torch.from_numpy(logits).double())
    expected = torchs.log_prob(torch.from_numpy(drawn).double()).sum(1).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_an_action_that_is_masked_out_is_never_drawn() -> None:
    categorical = Categorical(discrete_space(3))
    logits = rows([0.0, -np.inf, 0.0])
    assert set(categorical.sample(logits, noise(3, 9)).tolist()) == {0, 2}
    assert categorical.log_probability(logits[:1], np.array([1])).tolist() == [-np.inf]


@pytest.mark.parametrize("seed", SEEDS)
def test_categorical_draws_are_as_frequent_as_they_are_probable(seed: int) -> None:
    logits = [1.0, -1.0, 0.0, 2.0]
    drawn = Categorical(discrete_space(4)).sample(rows(logits), noise(4, seed))
    probabilities = torch.softmax(torch.tensor(logits, dtype=torch.float64), 0).numpy()
    assert stats.chisquare(np.bincount(drawn, minlength=4), probabilities * COUNT).pvalue > 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_places_are_drawn_independently_and_as_often_as_they_are_probable(seed: int) -> None:
    logits = [0.5, 0.0, 1.0, -1.0, 0.0]
    drawn = MultiCategorical(multi_discrete_space([2, 3])).sample(rows(logits), noise(5, seed))
    first = torch.softmax(torch.tensor(logits[:2], dtype=torch.float64), 0).numpy()
    second = torch.softmax(torch.tensor(logits[2:], dtype=torch.float64), 0).numpy()
    frequencies = np.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=6)
    assert stats.chisquare(frequencies, np.outer(first, second).ravel() * COUNT).pvalue > 1e-3


@pytest.mark.parametrize("seed", SEEDS)
def test_ones_are_as_frequent_as_they_are_probable(seed: int) -> None:
    logits = np.array([-2.0, 0.0, 1.5])
    drawn = Bernoulli(multi_binary_space(3)).sample(rows(logits.tolist()), noise(3, seed))
    for column, probability in zip(drawn.T, 1 / (1 + np.exp(-logits)), strict=True):
        assert stats.binomtest(int(column.sum()), COUNT, probability).pvalue > 1e-3


def test_draws_become_samples_of_their_spaces() -> None:
    assert Categorical(discrete_space(3, start=-5)).action(np.array([0, 2])).tolist() == [-5, -3]
    actions = MultiCategorical(multi_discrete_space([2, 3], [4, -1])).action(np.array([[1, 0], [0, 2]]))
    assert actions.tolist() == [[5, -1], [4, 1]]
    assert actions.dtype == np.int64
    ones = Bernoulli(multi_binary_space(2, 2)).action(np.array([[True, False, False, True]]))
    assert ones.tolist() == [[[1, 0], [0, 1]]]
    assert ones.dtype == np.int8


def test_a_tie_is_no_one() -> None:
    assert Bernoulli(multi_binary_space(3)).mode(np.array([[-0.1, 0.0, 0.1]])).tolist() == [[False, False, True]]
