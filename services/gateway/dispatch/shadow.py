"""The shadow: a version that gets copies of answered requests, and whose answers are compared and thrown away.

A copy is made after the request was answered, only while nothing waits for a replica, and it is of the kind that is
served last and shed first: so nobody waits for it. Policies with memory are not shadowed: the shadow would need the
state of an episode that it never played.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from services.gateway.dispatch.routes import Shadow
from services.gateway.requests.request import Request
from services.gateway.requests.statistics import Statistics
from services.gateway.requests.versions import Version
from steersman import tensors
from steersman.errors import ResourceExhaustedError, SteersmanError
from steersman.v1 import deployment_pb2

if TYPE_CHECKING:
    from services.gateway.dispatch.dispatcher import Dispatcher

_MAX_IN_FLIGHT = 32
_SECONDS = 5.0


@dataclass(slots=True)
class ShadowStatistics:
    """What came of the copies; see `ShadowStatistics` in the protos, and `Activity` for what was measured.

    Each ends as compared, failed or dropped.
    """

    compared: int = 0
    disagreed: int = 0
    failed: int = 0
    dropped: int = 0
    in_flight: int = 0
    measured: int = 0
    distance: float = 0.0
    distance_squared: float = 0.0

    def message(self) -> deployment_pb2.ShadowStatistics:
        """Writes the counts."""
        return deployment_pb2.ShadowStatistics(
            compared=self.compared, disagreed=self.disagreed, failed=self.failed, dropped=self.dropped
        )


def shadowed(
    dispatcher: Dispatcher, shadow: Shadow, on_finished: Callable[[Request], None]
) -> Callable[[Request], None]:
    """Makes a callback that tells a request's caller, and then the shadow.

    Args:
        dispatcher: The policy's.
        shadow: Which version, and how exact.
        on_finished: The caller's own.
    """

    def finish(request: Request) -> None:
        on_finished(request)
        if request.error is None:
            # After this turn: the dispatcher is in the middle of an answer.
            dispatcher.later(lambda: _copy(dispatcher, shadow, request))

    return finish


def _copy(dispatcher: Dispatcher, shadow: Shadow, answered: Request) -> None:
    statistics = dispatcher.shadow_statistics
    if dispatcher.waiting or statistics.in_flight >= _MAX_IN_FLIGHT:
        statistics.dropped += 1
        return
    version = dispatcher.versions.get(shadow.version)
    if version is None or version.state or not version.takes_the_same_as(answered.version):
        statistics.failed += 1
        return

    def compare(copy: Request) -> None:
        statistics.in_flight -= 1
        if isinstance(copy.error, ResourceExhaustedError):
            statistics.dropped += 1
        elif copy.error is not None:
            statistics.failed += 1
        else:
            statistics.compared += 1
            statistics.disagreed += not agree(version, answered.outputs, copy.outputs, shadow.tolerance)
            if (apart := distance(version, answered.outputs, copy.outputs)) is not None:
                statistics.measured += 1
                statistics.distance += apart
                statistics.distance_squared += apart * apart

    now = time.monotonic()
    copy = Request(
        answered.policy,
        # Of their own: nobody asked for these.
        Statistics(),
        answered.inputs,
        answered.size,
        answered.batched,
        version,
        True,
        now,
        compare,
        interactive=False,
        deadline=now + _SECONDS,
    )
    statistics.in_flight += 1
    try:
        dispatcher.submit(copy)
    except SteersmanError as error:
        copy.fail(error)


def agree(version: Version, first: tuple[bytes, ...], second: tuple[bytes, ...], tolerance: float) -> bool:
    """Compares two answers.

    Args:
        version: A version that gives such answers.
        first: For each action tensor its elements; what else there is does not matter.
        second: The other answer.
        tolerance: By how much floating-point elements may differ. Integers have to be equal.

    Returns:
        Whether all actions agree; NaN agrees with NaN.
    """
    for entry, one, other in zip(version.action, first, second, strict=False):
        dtype = tensors.NUMPY_DTYPES[entry.dtype]
        if one == other:
            continue
        if not np.issubdtype(dtype, np.floating):
            return False
        if not np.allclose(
            np.frombuffer(one, dtype), np.frombuffer(other, dtype), rtol=0.0, atol=tolerance, equal_nan=True
        ):
            return False
    return True


def distance(version: Version, first: tuple[bytes, ...], second: tuple[bytes, ...]) -> float | None:
    """Measures how far two answers are apart.

    Args:
        version: A version that gives such answers.
        first: As for `agree`.
        second: The other answer.

    Returns:
        The largest difference of two floating-point elements; None if there are none, or one is no number.
    """
    largest: list[float] = []
    for entry, one, other in zip(version.action, first, second, strict=False):
        dtype = tensors.NUMPY_DTYPES[entry.dtype]
        if np.issubdtype(dtype, np.floating) and one:
            apart = np.abs(np.frombuffer(one, dtype).astype(np.float64) - np.frombuffer(other, dtype))
            largest.append(float(apart.max()))
    # Not `max` and then a look: it may pass over what is no number.
    return max(largest) if largest and all(map(math.isfinite, largest)) else None
