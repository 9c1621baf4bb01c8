"""What an answer can bring besides the action: the names on the wire, the same for clients, gateways and replicas.

Each names a tensor of the answer, an output of the model, and the field of the message `ActOptions` that asks for it.
"""

from __future__ import annotations

from collections.abc import Container

from steersman.v1 import common_pb2

LOG_PROBABILITY = "log_probability"
"""Logarithm of the action's probability, or density, under the action distribution: float32, one per observation."""

VALUE = "value"
"""Estimate of the observation's value: float32, one per observation."""

ACTION_DISTRIBUTION_INPUTS = "action_distribution_inputs"
"""Parameters of the action distribution: float32, one row per observation."""

EXTRAS = (LOG_PROBABILITY, VALUE, ACTION_DISTRIBUTION_INPUTS)
"""All of them."""


def read_extras(options: common_pb2.ActOptions) -> tuple[str, ...]:
    """Gives the extras that options ask for, in the order of `EXTRAS`."""
    return tuple([name for name in EXTRAS if getattr(options, name)])


def write_extras(options: common_pb2.ActOptions, names: Container[str]) -> None:
    """Has options ask for just the extras among some names."""
    for name in EXTRAS:
        setattr(options, name, name in names)
