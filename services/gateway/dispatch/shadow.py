"""The shadow: a version that gets copies of answered requests, and whose answers are compared and thrown away.

A copy is made after the request was answered, only while nothing waits for a replica, and it is of the kind that is
served last and shed first: so nobody waits for it. Policies with memory are not shadowed: the shadow would need the
state of an episode that it never played.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from services.gateway.dispatch.routes import Shadow
from services.gateway.requests.request import Request
from services.gateway.requests.statistics import Statistics
from services.gateway.requests.versions import Version
from steersman import tensors
from steersman.errors import InternalError, ResourceExhaustedError, SteersmanError
from steersman.v1 import deployment_pb2

_log = logging.getLogger(__name__)

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

    def add(self, agreed: bool, apart: float | None) -> None:
        """Counts a comparison.

        Args:
            agreed: Whether the actions agree.
            apart: How far they are apart, if that can be measured.
        """
        self.compared += 1
        self.disagreed += not agreed
        if apart is not None:
            self.measured += 1
            self.distance += apart
            self.distance_squared += apart * apart

    def message(self) -> deployment_pb2.ShadowStatistics:
        """Writes the counts."""
        return deployment_pb2.ShadowStatistics(
            compared=self.compared, disagreed=self.disagreed, failed=self.failed, dropped=self.dropped
        )


class Host(Protocol):
    """What is needed of the policy that a shadow belongs to; its dispatcher has it."""

    @property
    def shadow_statistics(self) -> ShadowStatistics:
        """Where copies are counted."""

    @property
    def waiting(self) -> int:
        """Observations that wait for a replica."""

    @property
    def versions(self) -> Mapping[int, Version]:
        """The versions that at least one replica would compute, by number."""

    @property
    def clock(self) -> Callable[[], float]:
        """Gives the time: seconds of `time.monotonic`."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Calls a function after what is ready now."""

    def submit(self, request: Request) -> None:
        """Takes a request."""


def shadowed(host: Host, shadow: Shadow, on_finished: Callable[[Request], None]) -> Callable[[Request], None]:
    """Makes a callback that tells a request's caller, and then the shadow.

    Args:
        host: The policy's dispatcher.
        shadow: Which version, and how exact.
        on_finished: The caller's own.
    """

    def finish(request: Request) -> None:
        on_finished(request)
        if request.error is None:
            # Not now: the dispatcher is in the middle of an answer.
            host.call_soon(lambda: _copy(host, shadow, request))

    return finish


def _copy(host: Host, shadow: Shadow, answered: Request) -> None:
    statistics = host.shadow_statistics
    if host.waiting or statistics.in_flight >= _MAX_IN_FLIGHT:
        statistics.dropped += 1
        return
    version = host.versions.get(shadow.version)
    if version is None or version.state or not version.takes_the_same_as(answered.version):
        statistics.failed += 1
        return

    def compare(copy: Request) -> None:
        statistics.in_flight -= 1
        if copy.error is None:
            try:
                statistics.add(
                    agree(version, answered.outputs, copy.outputs, shadow.tolerance),
                    distance(version, answered.outputs, copy.outputs),
                )
            except Exception:  # noqa: BLE001 - whatever it is, it concerns no one else
                _log.exception("an answer of shadow %d of policy %s cannot be compared", version.number, copy.policy)
                statistics.failed += 1
        elif isinstance(copy.error, ResourceExhaustedError):
            statistics.dropped += 1
        else:
            statistics.failed += 1

    now = host.clock()
    copy = Request(
        policy=answered.policy,
        # Of their own: nobody asked for these.
        statistics=Statistics(),
        inputs=answered.inputs,
        size=answered.size,
        batched=answered.batched,
        version=version,
        pinned=True,
        arrived=now,
        on_finished=compare,
        interactive=False,
        deadline=now + _SECONDS,
    )
    statistics.in_flight += 1
    try:
        host.submit(copy)
    except SteersmanError as error:
        copy.fail(error, now)
    except Exception:  # noqa: BLE001 - whatever it is, it concerns no one else
        _log.exception("a copy for shadow %d of policy %s could not be queued", version.number, answered.policy)
        copy.fail(InternalError("expected to queue the copy, but the gateway failed at it"), now)


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
