from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Tuple
from hypothesis import given, settings

from steersman import spaces, tensors
from steersman.errors import InvalidArgumentError
from steersman.v1 import common_pb2
from tests.gymnasium_spaces import SPACES


def parts_of(space: gymnasium.Space[Any], path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Gives the path to each part without parts."""
    if isinstance(space, Dict):
        return [found for key, part in space.spaces.items() for found in parts_of(part, (*path, key))]
    if isinstance(space, Tuple):
        return [found for key, part in enumerate(space.spaces) for found in parts_of(part, (*path, key))]
    return [path]


@given(space=SPACES)
@settings(deadline=None)
def test_names_are_unique_and_tell_the_way(space: gymnasium.Space[Any]) -> None:
    specs = spaces.tensor_specs(spaces.from_gymnasium(space), spaces.ACTION)
    assert len({spec.name for spec in specs}) == len(specs)
    assert all(spec.name.split("/")[0] == "action" for spec in specs)
    assert [spaces.part_path(spec.name) for spec in specs] == [list(map(str, path)) for path in parts_of(space)]


def test_parts_are_named_as_the_protocol_says() -> None:
    space = Dict({"camera": Discrete(2), "joints": Tuple([Discrete(2), Dict({"a/b~": Discrete(2), "": Discrete(2)})])})
    names = [spec.name for spec in spaces.tensor_specs(spaces.from_gymnasium(space), spaces.OBSERVATION)]
    assert names == [
        "observation/camera",
        "observation/joints/0",
        "observation/joints/1/",
        "observation/joints/1/a~1b~0",
    ]
    assert [spec.name for spec in spaces.tensor_specs(spaces.from_gymnasium(Discrete(2)), spaces.ACTION)] == ["action"]


def test_specs_tell_dtypes_and_shapes() -> None:
    space = Tuple([Box(0, 255, (84, 84, 4), np.uint8), Discrete(3)])
    specs = spaces.tensor_specs(spaces.from_gymnasium(space), spaces.OBSERVATION)
    assert [tensors.describe(spec.dtype, spec.shape) for spec in specs] == ["uint8[84, 84, 4]", "int64[]"]


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (common_pb2.Space(), "a kind of space that is known here for action, got none"),
        (common_pb2.Space(box=common_pb2.BoxSpace()), "a known dtype for action, got number 0"),
        (common_pb2.Space(tuple=common_pb2.TupleSpace(parts=[common_pb2.Space()])), "for action/0, got none"),
        (spaces.from_gymnasium(Dict({"nothing": Tuple([])})), "at least one tensor in the action space, got none"),
        (
            common_pb2.Space(
                dict=common_pb2.DictSpace(
                    parts=[common_pb2.NamedSpace(key="twice", space=spaces.from_gymnasium(Discrete(2)))] * 2
                )
            ),
            r"different keys in action, got one of \['twice'\] twice",
        ),
    ],
)
def test_what_is_no_space_is_refused(space: common_pb2.Space, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        spaces.tensor_specs(space, spaces.ACTION)
