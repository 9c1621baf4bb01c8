from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from services.common.bundle import MODEL, write_bundle
from services.policy.distributions.gaussian import DiagonalGaussian
from services.policy.randomness import Draw
from services.policy.runtime import GREEDY, Choice, PolicyRuntime, Tensors
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2
from tests.bundles import (
    TOTAL,
    linear_spec,
    write_gaussian_bundle,
    write_linear_bundle,
    write_recurrent_bundle,
    write_slow_bundle,
)

OBSERVATIONS = np.random.default_rng(1).normal(size=(24, 3)).astype(np.float32)


def floats(array: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    """Tells the type checker that a tensor holds floats, having made sure of it."""
    assert array.dtype == np.float32
    return array.astype(np.float32)


def test_actions_do_not_depend_on_the_batch(tmp_path: Path) -> None:
    runtime = PolicyRuntime(write_linear_bundle(tmp_path, actions=5))
    batch = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    together = runtime.compute({"observation": batch})["action"]
    alone = [runtime.compute({"observation": row[np.newaxis]})["action"][0] for row in batch]
    np.testing.assert_array_equal(together, alone)
    assert together.dtype == np.int64
    assert len(set(together.tolist())) > 1


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, b"no model", linear_spec(), {})
    with pytest.raises(InvalidArgumentError, match=f"cannot load .*{MODEL}"):
        PolicyRuntime(bundle)


def test_a_seed_draws_the_same_whatever_else_is_in_the_batch(tmp_path: Path) -> None:
    runtime = PolicyRuntime(write_linear_bundle(tmp_path, observation_size=3, actions=5))
    alone = runtime.compute({"observation": OBSERVATIONS[:10]}, Choice([Draw(10, 42, 0)]))["action"]
    # The same ten observations in two parts, with another request's before, between and behind them.
    mixed = np.concatenate([OBSERVATIONS[10:14], OBSERVATIONS[:6], OBSERVATIONS[14:16], OBSERVATIONS[6:10]])
    draws = [Draw(4, 7, 0), Draw(6, 42, 0), Draw(2, 7, 4), Draw(4, 42, 6)]
    among_others = runtime.compute({"observation": mixed}, Choice(draws))["action"]
    np.testing.assert_array_equal(alone, np.concatenate([among_others[4:10], among_others[12:]]))
    assert alone.dtype == np.int64
    others = [runtime.compute({"observation": OBSERVATIONS}, Choice([Draw(24, seed, 0)]))["action"] for seed in (1, 2)]
    assert (others[0] != others[1]).any()


def test_extras_come_only_when_they_are_asked_for(tmp_path: Path) -> None:
    runtime = PolicyRuntime(write_gaussian_bundle(tmp_path))
    inputs: Tensors = {"observation": OBSERVATIONS}
    assert set(runtime.compute(inputs)) == {"action"}
    for name, shape in (("value", (24,)), ("log_probability", (24,)), ("action_distribution_inputs", (24, 4))):
        outputs = runtime.compute(inputs, Choice(extras=[name]))
        assert set(outputs) == {"action", name}
        assert outputs[name].shape == shape
        assert outputs[name].dtype == np.float32
    value = runtime.compute(inputs, Choice(extras=["value"]))["value"]
    np.testing.assert_allclose(floats(value), OBSERVATIONS.sum(axis=1), atol=1e-6)


def test_the_spec_lists_the_extras_that_the_model_gives(tmp_path: Path) -> None:
    linear = PolicyRuntime(write_linear_bundle(tmp_path / "linear", actions=5)).spec
    assert [entry.name for entry in linear.extra_tensors] == ["action_distribution_inputs", "log_probability"]
    gaussian = PolicyRuntime(write_gaussian_bundle(tmp_path / "gaussian")).spec
    assert [entry.name for entry in gaussian.extra_tensors] == [
        "action_distribution_inputs",
        "log_probability",
        "value",
    ]
    assert list(gaussian.extra_tensors[0].shape) == [4]


@pytest.mark.parametrize("sampled", [False, True])
def test_the_log_probability_is_that_of_the_action(tmp_path: Path, sampled: bool) -> None:
    runtime = PolicyRuntime(write_gaussian_bundle(tmp_path, "none"))
    draws = [Draw(24, 3, 0)] if sampled else None
    outputs = runtime.compute(
        {"observation": OBSERVATIONS}, Choice(draws, ["log_probability", "action_distribution_inputs"])
    )
    means, log_deviations = np.split(floats(outputs["action_distribution_inputs"]), 2, axis=1)
    density = stats.norm(means, np.exp(log_deviations)).logpdf(floats(outputs["action"])).sum(axis=1)
    np.testing.assert_allclose(floats(outputs["log_probability"]), density, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("transform", ["none", "clip", "unsquash"])
def test_draws_are_taken_to_the_action_space_as_greedy_actions_are_in_the_graph(tmp_path: Path, transform: str) -> None:
    bundle = write_gaussian_bundle(tmp_path, transform)
    runtime = PolicyRuntime(bundle)
    greedy = runtime.compute({"observation": OBSERVATIONS}, Choice(extras=["action_distribution_inputs"]))
    means, _ = np.split(greedy["action_distribution_inputs"], 2, axis=1)
    taken = DiagonalGaussian(bundle.spec.action_space.box, transform).action(means)
    np.testing.assert_allclose(floats(greedy["action"]), taken, rtol=1e-6, atol=1e-6)
    drawn = runtime.compute({"observation": OBSERVATIONS}, Choice([Draw(24, 3, 0)]))["action"]
    inside = ((drawn >= [-2.0, 0.0]) & (drawn <= [2.0, 0.5])).all()
    assert inside == (transform != "none")
    assert drawn.dtype == np.float32


def test_it_is_known_how_long_the_warm_up_took(tmp_path: Path) -> None:
    fast = PolicyRuntime(write_linear_bundle(tmp_path / "fast"))
    slow = PolicyRuntime(write_slow_bundle(tmp_path / "slow"))
    assert fast.warm_up_observations >= slow.warm_up_observations >= 1
    assert 0 < fast.warm_up_seconds / fast.warm_up_observations < slow.warm_up_seconds / slow.warm_up_observations


def play(runtime: PolicyRuntime, episode: list[int], seeds: list[int] | None = None) -> tuple[list[int], list[float]]:
    """Plays an episode of the recurrent bundle; gives its actions and its states."""
    total = np.zeros((1, 1), np.float32)
    actions, totals = [], []
    for step, number in enumerate(episode):
        choice = GREEDY if seeds is None else Choice([Draw(1, seeds[step], 0)])
        outputs = runtime.compute({"observation": np.array([[number]], np.float32), TOTAL: total}, choice)
        total = outputs[TOTAL].astype(np.float32)
        actions.append(int(outputs["action"][0]))
        totals.append(float(total[0, 0]))
    return actions, totals


def test_a_policy_with_memory_gives_its_next_state(tmp_path: Path) -> None:
    runtime = PolicyRuntime(write_recurrent_bundle(tmp_path, actions=10))
    actions, totals = play(runtime, [3, 4, 5, 6])
    assert actions == [3, 7, 2, 8]
    assert totals == [3, 7, 12, 18]


def test_a_policy_with_memory_can_be_sampled_and_its_state_does_not_depend_on_the_draws(tmp_path: Path) -> None:
    runtime = PolicyRuntime(write_recurrent_bundle(tmp_path, actions=10))
    episode = [3] * 40
    greedy, totals = play(runtime, episode)
    sampled, same_totals = play(runtime, episode, seeds=list(range(40)))
    assert play(runtime, episode, seeds=list(range(40))) == (sampled, totals)
    assert same_totals == totals
    assert sampled != greedy


def test_episodes_in_a_batch_keep_to_their_own_states(tmp_path: Path) -> None:
    runtime = PolicyRuntime(write_recurrent_bundle(tmp_path, actions=10))
    inputs: Tensors = {
        "observation": np.array([[1], [1], [1]], np.float32),
        TOTAL: np.array([[0], [5], [8]], np.float32),
    }
    outputs = runtime.compute(inputs, Choice(extras=["value"]))
    assert outputs["action"].tolist() == [1, 6, 9]
    assert outputs["value"].tolist() == [0, 5, 8]


def test_a_model_without_a_distribution_acts_greedily_even_when_it_is_to_sample(tmp_path: Path) -> None:
    bundle = write_recurrent_bundle(tmp_path)
    spec = common_pb2.PolicySpec()
    spec.CopyFrom(bundle.spec)
    spec.action_distributions[0].kind = "deterministic"
    runtime = PolicyRuntime(replace(bundle, spec=spec))
    assert [entry.name for entry in runtime.spec.extra_tensors] == ["value"]
    assert play(runtime, [3, 4], seeds=[1, 2]) == play(runtime, [3, 4])
