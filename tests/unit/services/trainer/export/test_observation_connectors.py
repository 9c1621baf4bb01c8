from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import tree
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary, MultiDiscrete, Space, Tuple
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from ray.rllib.connectors.env_to_module import FlattenObservations, MeanStdFilter
from ray.rllib.connectors.env_to_module.frame_stacking import FrameStackingEnvToModule
from ray.rllib.connectors.env_to_module.prev_actions_prev_rewards import PrevActionsPrevRewards
from ray.rllib.utils.numpy import flatten_inputs_to_1d_tensor
from ray.rllib.utils.spaces.space_utils import get_base_struct_from_space

from services.trainer.export.image_scaling import ScaleImages
from services.trainer.export.memory import Memory
from services.trainer.export.nesting import Nested
from services.trainer.export.observation_connectors import ObservationStep, observation_steps
from steersman.errors import FailedPreconditionError

TIMELESS = settings(deadline=None)
"""How long arithmetic takes says nothing about it, and torch is slow at first."""

OBSERVATIONS = Box(-np.inf, np.inf, (3,), np.float32)
ACTIONS: Space[Any] = Discrete(3)
floats = st.floats(-1e3, 1e3, width=32)
batches = arrays.arrays(np.float32, (5, 3), elements=floats)


def pipeline(*pieces: object) -> SimpleNamespace:
    return SimpleNamespace(connectors=list(pieces))


def run(steps: list[ObservationStep], observation: Nested) -> npt.NDArray[Any]:
    for step in steps:
        observation = step.apply(observation, Memory({}))
    result: npt.NDArray[Any] = observation.numpy()
    return result


def apply(steps: list[ObservationStep], batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return run(steps, torch.as_tensor(batch))


def placed(piece: Any, observations: Space[Any] = OBSERVATIONS, actions: Space[Any] = ACTIONS) -> Any:  # noqa: ANN401
    """Tells a piece its spaces: only now, since RLlib's constructors look at settings that they have not set yet."""
    piece.input_action_space, piece.input_observation_space = actions, observations
    return piece


def learnt_filter(data: npt.NDArray[np.float32], **options: bool) -> MeanStdFilter:
    piece = placed(MeanStdFilter(**options))
    piece._init_new_filters()
    for observation in data:
        piece._filters[None](observation)
    return piece


@TIMELESS
@given(batches, batches)
@pytest.mark.parametrize("options", [{}, {"de_mean_to_zero": False}, {"de_std_to_one": False}])
def test_mean_std_filter_is_exact(
    options: dict[str, bool], data: npt.NDArray[np.float32], batch: npt.NDArray[np.float32]
) -> None:
    piece = learnt_filter(data, **options)
    with np.errstate(over="ignore"):
        expected = np.stack([piece._filters[None](observation, update=False) for observation in batch])
    found = apply(observation_steps(pipeline(piece)), batch)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_exported_filter_is_frozen() -> None:
    data = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    piece = learnt_filter(data)
    steps = observation_steps(pipeline(piece))
    before = apply(steps, data[:5])
    for observation in data * 100:
        piece._filters[None](observation)
    np.testing.assert_array_equal(apply(steps, data[:5]), before)


def test_flatten_keeps_the_batch_axis() -> None:
    piece = FlattenObservations(Box(-1.0, 1.0, (2, 3), np.float64), Discrete(2))
    batch = np.arange(24, dtype=np.float64).reshape(4, 2, 3)
    found = apply(observation_steps(pipeline(piece)), batch)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, batch.reshape(4, 6).astype(np.float32))


PARTS = Dict(
    {
        "z": Box(-1.0, 1.0, (2, 2), np.float64),
        "a": Discrete(3),
        "m": Tuple((MultiDiscrete([2, 4]), MultiBinary(3), Box(-1.0, 1.0, (), np.float32))),
    }
)


def batch_of(space: Space[Any], size: int) -> tuple[list[Any], Any]:
    """Draws samples, and gives them once one by one and once as nested arrays."""
    space.seed(5)
    samples = [space.sample() for _ in range(size)]
    return samples, tree.map_structure(lambda *parts: torch.as_tensor(np.stack(parts)), *samples)


def test_parts_are_flattened_as_rllib_does() -> None:
    samples, batch = batch_of(PARTS, 6)
    piece = FlattenObservations(PARTS, Discrete(2))
    found = run(observation_steps(pipeline(piece)), batch)
    expected = [
        flatten_inputs_to_1d_tensor(sample, get_base_struct_from_space(PARTS), batch_axis=False) for sample in samples
    ]
    np.testing.assert_array_equal(found, np.stack(expected))


def test_parts_can_be_left_out() -> None:
    samples, batch = batch_of(PARTS, 6)
    found = run(observation_steps(pipeline(FlattenObservations(PARTS, Discrete(2), keys_to_remove=["m", "a"]))), batch)
    np.testing.assert_array_equal(found, np.stack([sample["z"].ravel() for sample in samples]).astype(np.float32))


@pytest.mark.parametrize(
    "space", [Discrete(3, start=1), MultiDiscrete([2, 3], start=[0, 1]), MultiDiscrete(np.array([[2], [3]]))]
)
def test_integers_that_rllib_flattens_wrongly_are_refused(space: Space[Any]) -> None:
    piece = FlattenObservations(Box(-1, 1, (2,), np.float32), Discrete(2))
    piece._input_obs_base_struct = {"part": space}
    with pytest.raises(FailedPreconditionError, match="start at 0, in one axis"):
        observation_steps(pipeline(piece))


def test_a_filter_of_integers_is_refused() -> None:
    piece = placed(MeanStdFilter(), Box(0, 255, (2,), np.int32))
    piece._init_new_filters()
    with pytest.raises(FailedPreconditionError, match="expected a Box of floats"):
        observation_steps(pipeline(piece))


IMAGES = Box(0, 255, (4, 4, 1), np.uint8)


def test_frames_are_stacked_as_bytes_and_scaled_after_that() -> None:
    scaling = ScaleImages(IMAGES, Discrete(2))
    stacking = placed(FrameStackingEnvToModule(num_frames=3), scaling.observation_space)
    steps = observation_steps(pipeline(scaling, stacking))
    (frames,) = [state for step in steps for state in step.states]
    assert (frames.name, np.dtype(frames.dtype), frames.shape) == ("state/frames", np.dtype(np.uint8), (4, 4, 2))
    episode = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), np.uint8)
    state = frames.zeros(1)
    for step_number, image in enumerate(episode):
        memory = Memory({"state/frames": state})
        observation = torch.as_tensor(image[None])
        for step in steps:
            observation = step.apply(observation, memory)
        state = memory.after["state/frames"]
        padded = np.concatenate([np.zeros((2, 4, 4, 1), np.uint8), episode[: step_number + 1]])[-3:]
        expected = np.concatenate(list(padded), axis=-1).astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(observation[0].numpy(), expected)


def test_what_rllib_would_ignore_behind_stacked_frames_is_refused() -> None:
    space = Box(0.0, 1.0, (4, 4, 1), np.float32)
    stacking = placed(FrameStackingEnvToModule(num_frames=2), space)
    with pytest.raises(FailedPreconditionError, match="put FrameStacking last"):
        observation_steps(pipeline(stacking, FlattenObservations(space, Discrete(2))))


def test_previous_actions_and_rewards_are_added() -> None:
    piece = placed(PrevActionsPrevRewards(n_prev_actions=2, n_prev_rewards=2))
    (step,) = observation_steps(pipeline(piece))
    assert [(state.name, state.shape) for state in step.states] == [
        ("state/previous_actions", (2,)),
        ("state/previous_rewards", (1,)),
    ]
    assert step.takes_reward
    memory = Memory(
        {"state/previous_actions": torch.tensor([[0, 2]]), "state/previous_rewards": torch.tensor([[0.5]])},
        torch.tensor([7.0]),
    )
    found = step.apply(torch.zeros(1, 3), memory)
    assert found["prev_n_actions"].tolist() == [[0, 0, 0, 0, 1, 0]], "no action yet, then action 1"
    assert found["prev_n_rewards"].tolist() == [[0.5, 7.0]]
    assert memory.after["state/previous_rewards"].tolist() == [[7.0]]


def test_unknown_piece_is_refused_with_what_to_do() -> None:
    class Mystery(MeanStdFilter):  # type: ignore[misc] # RLlib has no types
        """Could compute anything."""

    with pytest.raises(
        FailedPreconditionError, match=r"Mystery: expected only CountFromZero, FlattenObservations, .*;"
    ):
        observation_steps(pipeline(placed(Mystery())))
