"""Against torch and RLlib: what a policy was trained with is what it is served with."""

from collections.abc import Sequence

import gymnasium
import numpy as np
import numpy.typing as npt
import pytest
import torch
from ray.rllib.core.distribution.torch.torch_distribution import TorchCategorical, TorchDiagGaussian
from ray.rllib.utils.spaces.space_utils import clip_action, unsquash_action
from scipy import stats

from services.policy.distributions import Categorical, DiagonalGaussian, Distribution, distribution
from services.policy.randomness import Draw
from steersman import spaces
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2

GENERATOR = np.random.default_rng(3)
LOGITS = GENERATOR.normal(scale=3.0, size=(50, 6)).astype(np.float32)
"""For 50 observations: the logits of 6 actions, or the means and log-deviations of 3 numbers."""

BOX = gymnasium.spaces.Box(
    np.array([-2.0, 0.0, 5.0], np.float32), np.array([2.0, 0.5, 15.0], np.float32), dtype=np.float32
)


def gaussian(transform: str = "none", space: gymnasium.spaces.Box = BOX) -> DiagonalGaussian:
    return DiagonalGaussian(spaces.from_gymnasium(space).box, transform)


def categorical(n: int = 6, start: int = 0) -> Categorical:
    return Categorical(spaces.from_gymnasium(gymnasium.spaces.Discrete(n, start=start)).discrete)


def parameters(row: Sequence[float], count: int) -> npt.NDArray[np.float32]:
    return np.repeat(np.array([row], np.float32), count, axis=0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(categorical(), TorchCategorical), (gaussian(), TorchDiagGaussian)],
    ids=["categorical", "gaussian"],
)
def test_the_greedy_draw_is_rllibs(ours: Distribution, theirs: type) -> None:
    expected = theirs.from_logits(torch.from_numpy(LOGITS)).to_deterministic().sample().numpy()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(ours.mode(LOGITS), expected)


@pytest.mark.parametrize("shift", [0.0, 500.0, -500.0])
def test_a_categorical_log_probability_is_torchs(shift: float) -> None:
    logits = LOGITS + np.float32(shift)
    drawn = GENERATOR.integers(0, 6, size=len(LOGITS))
    found = categorical().log_probability(logits, drawn)
    assert found.dtype == np.float32
    expected = torch.distributions.Categorical(logits=torch.from_numpy(logits)).log_prob(torch.from_numpy(drawn))
    # Shifted logits have lost some digits before anybody looks at them.
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-5 if not shift else 2e-4)
    rllib = TorchCategorical.from_logits(torch.from_numpy(logits)).logp(torch.from_numpy(drawn)).numpy()
    np.testing.assert_allclose(found, rllib, rtol=0, atol=1e-5 if not shift else 2e-4)


def test_a_gaussian_log_probability_is_torchs() -> None:
    narrow = LOGITS / 3
    means, log_deviations = torch.from_numpy(narrow).chunk(2, dim=1)
    drawn = (means + log_deviations.exp() * torch.from_numpy(GENERATOR.normal(size=(50, 3)))).to(torch.float32)
    found = gaussian().log_probability(narrow, drawn.numpy())
    assert found.dtype == np.float32
    normal = torch.distributions.Normal(means.double(), log_deviations.double().exp())
    np.testing.assert_allclose(found, normal.log_prob(drawn.double()).sum(1).numpy(), rtol=0, atol=1e-5)
    rllib = TorchDiagGaussian.from_logits(torch.from_numpy(narrow)).logp(drawn).numpy()
    np.testing.assert_allclose(found, rllib, rtol=1e-6, atol=1e-5)


def test_an_action_that_is_masked_out_is_never_drawn() -> None:
    logits = parameters([0.0, -np.inf, 0.0], 2000)
    drawn = categorical(3).sample(logits, [Draw(2000, 9, 0)])
    assert set(drawn.tolist()) == {0, 2}
    assert categorical(3).log_probability(logits[:1], np.array([1])).tolist() == [-np.inf]


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_categorical_draws_are_as_frequent_as_they_are_probable(seed: int) -> None:
    count = 20_000
    logits = [1.0, -1.0, 0.0, 2.0]
    drawn = categorical(4).sample(parameters(logits, count), [Draw(count, seed, 0)])
    expected = torch.distributions.Categorical(logits=torch.tensor(logits, dtype=torch.float64)).probs.numpy()
    frequencies = np.bincount(drawn, minlength=4)
    assert stats.chisquare(frequencies, expected / expected.sum() * count).pvalue > 1e-3


@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_gaussian_draws_are_normal_and_independent(seed: int) -> None:
    count = 20_000
    means, log_deviations = np.array([1.0, -5.0, 0.0]), np.array([0.0, 1.0, -2.0])
    drawn = gaussian().sample(parameters([*means, *log_deviations], count), [Draw(count, seed, 0)])
    standardised = (drawn - means) / np.exp(log_deviations)
    for column in standardised.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(standardised, rowvar=False) - np.eye(3)).max() < 5 / np.sqrt(count)


@pytest.mark.parametrize(("transform", "normalize"), [("unsquash", True), ("clip", False)])
@pytest.mark.parametrize(
    "space",
    [
        BOX,
        gymnasium.spaces.Box(-2.0, 2.0, (1,)),
        gymnasium.spaces.Box(-1.0, 3.0, (2, 2)),
        gymnasium.spaces.Box(0.0, 1.0, ()),
    ],
    ids=str,
)
def test_a_draw_becomes_the_action_that_rllib_would_send(
    space: gymnasium.spaces.Box, transform: str, normalize: bool
) -> None:
    size = int(np.prod(space.shape))
    drawn = GENERATOR.normal(scale=2.0, size=(200, size)).astype(np.float32)
    actions = gaussian(transform, space).action(drawn)
    assert actions.shape == (200, *space.shape)
    assert actions.dtype == np.float32
    taken_to = unsquash_action if normalize else clip_action
    expected = [taken_to(row.reshape(space.shape), space) for row in drawn]
    np.testing.assert_allclose(actions, expected, rtol=1e-6, atol=1e-6)
    assert all(space.contains(np.asarray(action)) for action in actions)
    assert (actions == space.low).any(), "some draws must lie outside for this to show anything"


def test_without_a_transform_the_draw_is_the_action() -> None:
    drawn = GENERATOR.normal(scale=9.0, size=(200, 3)).astype(np.float32)
    np.testing.assert_array_equal(gaussian("none").action(drawn), drawn)


def test_a_discrete_space_may_begin_anywhere() -> None:
    actions = categorical(3, start=-5).action(np.array([0, 2]))
    assert actions.tolist() == [-5, -3]
    assert actions.dtype == np.int64


def spec(name: str, space: gymnasium.Space[object], transform: str = "none") -> common_pb2.PolicySpec:
    return common_pb2.PolicySpec(
        action_space=spaces.from_gymnasium(space),
        action_distributions=[common_pb2.ActionDistribution(kind=name, transform=transform)],
    )


def test_the_distribution_is_found_by_its_name() -> None:
    assert isinstance(distribution(spec("categorical", gymnasium.spaces.Discrete(2))), Categorical)
    assert isinstance(distribution(spec("diagonal_gaussian", BOX, "unsquash")), DiagonalGaussian)
    assert distribution(spec("deterministic", BOX)) is None


@pytest.mark.parametrize(
    "unknown",
    [
        spec("categorical", BOX),
        spec("diagonal_gaussian", gymnasium.spaces.Discrete(2)),
        spec("diagonal_gaussian", BOX, "squash"),
        spec("", BOX),
    ],
    ids=["categorical box", "gaussian discrete", "unknown transform", "none"],
)
def test_what_does_not_go_together_is_refused(unknown: common_pb2.PolicySpec) -> None:
    with pytest.raises(InvalidArgumentError, match="expected an action distribution that is known for a"):
        distribution(unknown)
