from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from ray.rllib.connectors.env_to_module import FlattenObservations, MeanStdFilter
from ray.rllib.connectors.module_to_env import NormalizeAndClipActions
from ray.rllib.utils.spaces.space_utils import clip_action, unsquash_action

from services.trainer.connectors import Step, action_steps, observation_steps
from steersman.errors import FailedPreconditionError

TIMELESS = settings(deadline=None)
"""How long arithmetic takes says nothing about it, and torch is slow at first."""

OBSERVATIONS = Box(-np.inf, np.inf, (3,), np.float32)
floats = st.floats(-1e3, 1e3, width=32)
batches = arrays.arrays(np.float32, (5, 3), elements=floats)


def pipeline(*pieces: object) -> SimpleNamespace:
    return SimpleNamespace(connectors=list(pieces))


def apply(steps: list[Step], batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
    tensor = torch.as_tensor(batch)
    for step in steps:
        tensor = step(tensor)
    result: npt.NDArray[Any] = tensor.numpy()
    return result


def new_filter(kind: type[MeanStdFilter], **options: bool) -> MeanStdFilter:
    piece = kind(**options)
    # Only now: RLlib's constructor asks for the limits before it has set them.
    piece.input_observation_space, piece.input_action_space = OBSERVATIONS, Discrete(2)
    return piece


def learnt_filter(data: npt.NDArray[np.float32], **options: bool) -> MeanStdFilter:
    piece = new_filter(MeanStdFilter, **options)
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


BOXES = [
    Box(np.array([-2.0, 0.5, -1e3], np.float32), np.array([2.0, 0.75, 1e3], np.float32)),
    Box(np.array([-2.0, 0.1, -0.3]), np.array([2.0, 0.7, 0.9]), dtype=np.float64),
    Box(np.array([-1.0, -np.inf, -1.0], np.float32), np.array([1.0, 1.0, np.inf], np.float32)),
]


@TIMELESS
@given(arrays.arrays(np.float32, (5, 3), elements=st.floats(-4, 4, width=32)))
@pytest.mark.parametrize("space", BOXES)
def test_unsquashing_is_exact(space: Box, batch: npt.NDArray[np.float32]) -> None:
    piece = NormalizeAndClipActions(OBSERVATIONS, space, normalize_actions=True, clip_actions=False)
    expected = np.stack([unsquash_action(action, space) for action in batch])
    np.testing.assert_array_equal(apply(action_steps(pipeline(piece)), batch), expected)


@TIMELESS
@given(arrays.arrays(np.float32, (5, 3), elements=floats))
@pytest.mark.parametrize("space", BOXES)
def test_clipping_is_exact(space: Box, batch: npt.NDArray[np.float32]) -> None:
    piece = NormalizeAndClipActions(OBSERVATIONS, space, normalize_actions=False, clip_actions=True)
    expected = np.stack([clip_action(action, space) for action in batch])
    np.testing.assert_array_equal(apply(action_steps(pipeline(piece)), batch), expected)


def test_neither_is_nothing() -> None:
    piece = NormalizeAndClipActions(OBSERVATIONS, BOXES[0], normalize_actions=False, clip_actions=False)
    assert action_steps(pipeline(piece)) == []


def test_unknown_piece_is_refused_with_what_to_do() -> None:
    class Mystery(MeanStdFilter):  # type: ignore[misc] # RLlib has no types
        """Could compute anything."""

    with pytest.raises(FailedPreconditionError, match=r"Mystery: expected only FlattenObservations, MeanStdFilter .*;"):
        observation_steps(pipeline(new_filter(Mystery)))
