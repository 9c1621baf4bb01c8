"""Against torch and RLlib: what a policy was trained with is what it is served with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from gymnasium.spaces import Box
from ray.rllib.core.distribution.torch.torch_distribution import TorchDiagGaussian, TorchSquashedGaussian
from ray.rllib.utils.spaces.space_utils import clip_action, unsquash_action
from scipy import stats

from services.policy.distributions.gaussian import DiagonalGaussian, SquashedGaussian
from services.policy.randomness import Draw, uniforms
from tests.unit.services.policy.distributions.spaces_of_parts import BOX, box_space

GENERATOR = np.random.default_rng(3)
PARAMETERS = GENERATOR.normal(size=(50, 6)).astype(np.float32)
"""For 50 observations: the means and log-deviations of 3 numbers."""

SEEDS = [0, 7, 2**64 - 1]
COUNT = 20_000


def samples(distribution: DiagonalGaussian, row: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    parameters = np.repeat(row[np.newaxis].astype(np.float32), COUNT, axis=0)
    return distribution.sample(parameters, uniforms([Draw(COUNT, seed, 0)], distribution.noise))


@pytest.mark.parametrize(
    ("ours", "theirs"), [(DiagonalGaussian, TorchDiagGaussian), (SquashedGaussian, TorchSquashedGaussian)]
)
def test_the_greedy_draw_is_rllibs(ours: type[DiagonalGaussian], theirs: type) -> None:
    expected = theirs.from_logits(torch.from_numpy(PARAMETERS)).to_deterministic().sample()  # type: ignore[attr-defined]
    np.testing.assert_array_equal(ours(box_space(), "none").mode(PARAMETERS), expected.numpy())


def test_a_gaussian_log_probability_is_torchs() -> None:
    means, log_deviations = torch.from_numpy(PARAMETERS).chunk(2, dim=1)
    drawn = (means + log_deviations.exp() * torch.from_numpy(GENERATOR.normal(size=(50, 3)))).to(torch.float32)
    found = DiagonalGaussian(box_space(), "none").log_probability(PARAMETERS, drawn.numpy())
    normal = torch.distributions.Normal(means.double(), log_deviations.double().exp())
    np.testing.assert_allclose(found, normal.log_prob(drawn.double()).sum(1).numpy(), rtol=0, atol=1e-5)
    rllib = TorchDiagGaussian.from_logits(torch.from_numpy(PARAMETERS)).logp(drawn).numpy()
    np.testing.assert_allclose(found, rllib, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 8.0], ids=["deviations inside", "deviations beyond what RLlib allows"])
def test_a_squashed_log_probability_is_torchs(scale: float) -> None:
    parameters = (PARAMETERS * np.repeat([1.0, scale], 3)).astype(np.float32)
    means, log_deviations = torch.from_numpy(parameters).double().chunk(2, dim=1)
    normal = torch.distributions.Normal(means, log_deviations.clamp(-5, 2).exp())
    squashed = torch.distributions.TransformedDistribution(normal, torch.distributions.TanhTransform())
    drawn = torch.from_numpy(GENERATOR.uniform(-0.99, 0.99, size=(50, 3)))
    found = SquashedGaussian(box_space(), "none").log_probability(parameters, drawn.numpy())
    np.testing.assert_allclose(found, squashed.log_prob(drawn).sum(1).numpy(), rtol=1e-9, atol=1e-9)
    rllib = TorchSquashedGaussian.from_logits(torch.from_numpy(parameters).double()).logp(drawn).numpy()
    np.testing.assert_allclose(found, rllib, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", [DiagonalGaussian, SquashedGaussian])
def test_draws_are_normal_and_independent(kind: type[DiagonalGaussian], seed: int) -> None:
    means, log_deviations = np.array([1.0, -0.5, 0.0]), np.array([0.0, -1.0, -2.0])
    drawn = samples(kind(box_space(), "none"), np.concatenate([means, log_deviations]), seed)
    if kind is SquashedGaussian:
        assert (np.abs(drawn) <= 1).all()
        drawn = np.arctanh(drawn)
    standardised = (drawn - means) / np.exp(log_deviations)
    for column in standardised.T:
        assert stats.kstest(column, "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(standardised, rowvar=False) - np.eye(3)).max() < 5 / np.sqrt(COUNT)


@pytest.mark.parametrize(("transform", "normalize"), [("unsquash", True), ("clip", False)])
@pytest.mark.parametrize("space", [BOX, Box(-2.0, 2.0, (1,)), Box(-1.0, 3.0, (2, 2)), Box(0.0, 1.0, ())], ids=str)
def test_a_draw_becomes_the_action_that_rllib_would_send(space: Box, transform: str, normalize: bool) -> None:
    size = int(np.prod(space.shape))
    drawn = GENERATOR.normal(scale=2.0, size=(200, size)).astype(np.float32)
    actions = DiagonalGaussian(box_space(space), transform).action(drawn)
    assert actions.shape == (200, *space.shape)
    assert actions.dtype == np.float32
    taken_to = unsquash_action if normalize else clip_action
    expected = [taken_to(row.reshape(space.shape), space) for row in drawn]
    np.testing.assert_allclose(actions, expected, rtol=1e-6, atol=1e-6)
    assert all(space.contains(np.asarray(action)) for action in actions)
    assert (actions == space.low).any(), "some draws must lie outside for this to show anything"


def test_without_a_transform_the_draw_is_the_action() -> None:
    drawn = GENERATOR.normal(scale=9.0, size=(200, 3)).astype(np.float32)
    np.testing.assert_array_equal(DiagonalGaussian(box_space(), "none").action(drawn), drawn)
