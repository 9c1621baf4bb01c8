"""Whether versions of a policy take and give the same, so that a request may go to either."""

from __future__ import annotations

from steersman import spaces
from steersman.v1 import common_pb2

_LONGEST = 300


def are_compatible(first: common_pb2.PolicySpec, second: common_pb2.PolicySpec) -> bool:
    """Tells whether whoever asks one version may as well be answered by the other.

    Their spaces are equal but for bounds, and they are sent the same tensors. What they remember may differ.
    """
    return (
        _without_bounds(first.observation_space) == _without_bounds(second.observation_space)
        and _without_bounds(first.action_space) == _without_bounds(second.action_space)
        and list(first.observation_tensors) == list(second.observation_tensors)
        and list(first.action_tensors) == list(second.action_tensors)
    )


def describe_interface(spec: common_pb2.PolicySpec) -> str:
    """Writes what a version takes and gives, in a line."""
    observation, action = _shortened(spec.observation_space), _shortened(spec.action_space)
    takes_reward = any(tensor.name == spaces.PREVIOUS_REWARD for tensor in spec.observation_tensors)
    reward = " and the reward of the step before" if takes_reward else ""
    return f"observations {observation}{reward} and actions {action}"


def _shortened(space: common_pb2.Space) -> str:
    words = spaces.describe(space)
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}..."


def _without_bounds(space: common_pb2.Space) -> common_pb2.Space:
    """Copies a space without the bounds of its boxes: they say what to expect, and nothing depends on them."""
    copy = common_pb2.Space()
    copy.CopyFrom(space)
    remaining = [copy]
    while remaining:
        part = remaining.pop()
        kind = part.WhichOneof("kind")
        if kind == "box":
            part.box.ClearField("low")
            part.box.ClearField("high")
        elif kind == "dict":
            remaining.extend(named.space for named in part.dict.parts)
        elif kind == "tuple":
            remaining.extend(part.tuple.parts)
    return copy
