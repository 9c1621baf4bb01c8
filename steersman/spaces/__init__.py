"""Gymnasium spaces on the wire, and samples of them as named tensors.

The client needs no Gymnasium: everything here works on `Space` messages. Only `from_gymnasium` and `to_gymnasium`
import it.

A sample without parts is one tensor, named "observation" or "action". The parts of Dict and Tuple spaces are tensors
of their own, named by their path: "observation/camera", "observation/joints/0".

Example:
    >>> space = spaces.from_gymnasium(environment.observation_space)
    >>> layout = spaces.layout(space, spaces.OBSERVATION)
    >>> tensors = spaces.flatten(environment.observation_space.sample(), layout)
    >>> sample = spaces.unflatten(tensors, layout)
"""

from steersman.spaces.conversion import from_gymnasium, to_gymnasium
from steersman.spaces.description import describe
from steersman.spaces.layouts import (
    ACTION,
    OBSERVATION,
    PREVIOUS_REWARD,
    Layout,
    Leaf,
    Sample,
    Tensors,
    layout,
    part_name,
    part_path,
    tensor_specs,
)
from steersman.spaces.limits import Limits, check_limits, limits_of
from steersman.spaces.samples import batch_axes, flatten, plain, unbatch, unflatten

__all__ = [
    "ACTION",
    "OBSERVATION",
    "PREVIOUS_REWARD",
    "Layout",
    "Leaf",
    "Limits",
    "Sample",
    "Tensors",
    "batch_axes",
    "check_limits",
    "describe",
    "flatten",
    "from_gymnasium",
    "layout",
    "limits_of",
    "part_name",
    "part_path",
    "plain",
    "tensor_specs",
    "to_gymnasium",
    "unbatch",
    "unflatten",
]
