"""Wrappers that gather what a version cannot hold: found wherever they are in the chain, and refused by name.

A bundle is the network and what is in its graph. What a wrapper has learnt or collected stays behind in the process
that trained, so the policy would be evaluated, and served, on other observations than it was trained on.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from steersman.errors import InvalidArgumentError

_STATISTICS = "its running statistics stay behind in training"

# By name, since there are copies of them in many packages.
_REFUSED = {
    "NormalizeObservation": (_STATISTICS, "--normalize (connectors.normalize), which exports them with the policy"),
    "NormalizeReward": (
        _STATISTICS,
        "a wrapper that scales rewards by a fixed number; returns are sums of the environment's own rewards either way",
    ),
    "FrameStackObservation": (
        "the frames that it keeps are not the policy's",
        "--frame-stack N (connectors.frame_stack), with which the policy's clients send single frames",
    ),
}
_REFUSED["FrameStack"] = _REFUSED["FrameStackObservation"]


def check_wrappers(environment: gymnasium.Env[Any, Any]) -> None:
    """Checks the wrappers of an environment, also those that its registration brings along.

    Raises:
        InvalidArgumentError: If one keeps what the bundle cannot hold; says what to use instead.
    """
    layer: Any = environment
    while isinstance(layer, gymnasium.Wrapper):
        for kind in type(layer).__mro__:
            if kind.__name__ in _REFUSED:
                why, instead = _REFUSED[kind.__name__]
                raise InvalidArgumentError(
                    f"expected no wrapper whose state a version cannot hold, got {type(layer).__name__}: {why}; "
                    f"use {instead}"
                )
        layer = layer.env
