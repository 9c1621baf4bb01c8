"""How actions are chosen and what is wanted besides them: what must be equal for requests to share a batch."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from steersman.errors import FailedPreconditionError
from steersman.extras import ACTION_DISTRIBUTION_INPUTS, read_extras, write_extras
from steersman.v1 import common_pb2


class Options(NamedTuple):
    """The options of a request, without its seed.

    Attributes:
        sample: Whether actions are drawn instead of greedy.
        extras: Names of what the answer is to bring besides the action.
    """

    sample: bool
    extras: tuple[str, ...]

    def message(self) -> common_pb2.ActOptions:
        """Writes the options for a replica."""
        message = common_pb2.ActOptions(sample=self.sample)
        write_extras(message, self.extras)
        return message


GREEDY = Options(sample=False, extras=())
"""What a request has that asks for nothing else."""


def read_options(message: common_pb2.ActOptions, available: Container[str], deterministic: bool) -> Options:
    """Reads a request's options.

    Args:
        message: The options as they came.
        available: The extras that the version has.
        deterministic: Whether the version has nothing to draw from: its every action is its greedy one.

    Raises:
        FailedPreconditionError: If the version cannot do what is asked for.
    """
    extras = read_extras(message)
    for name in extras:
        if name not in available:
            raise FailedPreconditionError(f"expected a bundle that gives {name!r}, but this version's does not")
    if message.sample and ACTION_DISTRIBUTION_INPUTS not in available and not deterministic:
        raise FailedPreconditionError("expected a bundle with an action distribution to sample from, got none")
    return Options(message.sample, extras) if message.sample or extras else GREEDY
