from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Space, Tuple
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from ray.rllib.connectors.module_to_env import GetActions, NormalizeAndClipActions
from ray.rllib.utils.spaces.space_utils import clip_action, unsquash_action

from services.trainer.export.action_connectors import ActionStep, action_steps, action_transform
from services.trainer.export.action_fit import FitActions
from steersman.errors import FailedPreconditionError

TIMELESS = settings(deadline=None)
"""How long arithmetic takes says nothing about it, and torch is slow at first."""

OBSERVATIONS = Box(-np.inf, np.inf, (3,), np.float32)
floats = st.floats(-1e3, 1e3, width=32)


def pipeline(space: Space[Any], *pieces: object) -> SimpleNamespace:
    return SimpleNamespace(connectors=list(pieces), input_action_space=space)


def steps_of(piece: object, space: Space[Any]) -> list[ActionStep]:
    (steps,) = action_steps(pipeline(space, piece))
    return steps


def apply(steps: list[ActionStep], batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
    tensor = torch.as_tensor(batch)
    for step in steps:
        tensor = step(tensor)
    result: npt.NDArray[Any] = tensor.numpy()
    return result


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
    np.testing.assert_array_equal(apply(steps_of(piece, space), batch), expected)


@TIMELESS
@given(arrays.arrays(np.float32, (5, 3), elements=floats))
@pytest.mark.parametrize("space", BOXES)
def test_clipping_is_exact(space: Box, batch: npt.NDArray[np.float32]) -> None:
    piece = NormalizeAndClipActions(OBSERVATIONS, space, normalize_actions=False, clip_actions=True)
    expected = np.stack([clip_action(action, space) for action in batch])
    np.testing.assert_array_equal(apply(steps_of(piece, space), batch), expected)


def test_neither_is_nothing() -> None:
    piece = NormalizeAndClipActions(OBSERVATIONS, BOXES[0], normalize_actions=False, clip_actions=False)
    assert steps_of(piece, BOXES[0]) == []


def test_each_part_of_an_action_has_steps_of_its_own() -> None:
    space = Dict({"push": BOXES[0], "gear": Discrete(3), "lights": Tuple((MultiDiscrete([2, 2]),))})
    piece = NormalizeAndClipActions(OBSERVATIONS, space, normalize_actions=True, clip_actions=False)
    gear, lights, push = action_steps(pipeline(space, piece))
    assert (len(gear), len(lights), len(push)) == (0, 0, 1)
    assert action_transform(pipeline(space, piece), BOXES[0]) == "unsquash"
    assert action_transform(pipeline(space, piece), space["gear"]) == "none"


@pytest.mark.parametrize(
    ("space", "batch", "expected"),
    [
        (Discrete(3, start=4), [0, 2], [4, 6]),
        (MultiDiscrete([2, 3], start=[-1, 5]), [[0, 0], [1, 2]], [[-1, 5], [0, 7]]),
    ],
)
def test_integers_start_where_the_space_does(space: Space[Any], batch: list[Any], expected: list[Any]) -> None:
    assert apply(steps_of(FitActions(OBSERVATIONS, space), space), np.array(batch)).tolist() == expected


def test_a_missing_start_is_refused() -> None:
    with pytest.raises(FailedPreconditionError, match="FitActions"):
        action_steps(pipeline(Tuple((Discrete(2), Discrete(3, start=1))), GetActions()))


def test_unknown_piece_is_refused_with_what_to_do() -> None:
    class Mystery(GetActions):  # type: ignore[misc] # RLlib has no types
        """Could compute anything."""

    with pytest.raises(FailedPreconditionError, match="Mystery: expected only FitActions"):
        action_steps(pipeline(Discrete(2), Mystery()))
