"""Shadows: how often the actions of a version that gets copies of live requests agree with those that are served."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

import grpc
from scipy import stats

from steersman.aio import open_channel
from steersman.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, from_rpc_error
from steersman.quoting import quoted
from steersman.settings import settings
from steersman.v1 import activity_pb2, deployment_pb2, deployment_pb2_grpc, evaluator_pb2

DEFAULT_SECONDS = 60.0
MAX_SECONDS = 86_400.0

_CONFIDENCE = 0.95
_INTERVAL_MILLISECONDS = 1000


@dataclass
class Counts:
    """What was compared.

    Attributes:
        compared: Requests.
        disagreed: Those of them with another action.
        measured: Those of them that have a distance.
        distance: Sum of the distances.
        distance_squared: Sum of their squares.
    """

    compared: int = 0
    disagreed: int = 0
    measured: int = 0
    distance: float = 0.0
    distance_squared: float = 0.0

    def add(self, activity: activity_pb2.Activity) -> None:
        """Adds what has come since the last message."""
        self.compared += activity.shadow_compared
        self.disagreed += activity.shadow_disagreed
        self.measured += activity.shadow_measured
        self.distance += activity.shadow_distance
        self.distance_squared += activity.shadow_distance_squared


async def follow_shadow(
    gateway_address: str, request: evaluator_pb2.EvaluateShadowRequest
) -> AsyncGenerator[evaluator_pb2.ShadowReport]:
    """Follows a shadow.

    Args:
        gateway_address: The gateway that copies requests; what its peers count comes with it.
        request: Which one, and for how long.

    Yields:
        A report about every second.

    Raises:
        SteersmanError: See `EvaluatorService.EvaluateShadow` in the protos.
    """
    seconds = request.seconds or DEFAULT_SECONDS
    if not 0 < seconds <= MAX_SECONDS:
        raise InvalidArgumentError(f"expected more than 0 and at most {MAX_SECONDS:g} seconds, got {seconds:g}")
    counts, shadow, began = Counts(), 0, time.perf_counter()
    watch = deployment_pb2.WatchDeploymentsRequest(policy=request.policy, interval_milliseconds=_INTERVAL_MILLISECONDS)
    try:
        async with open_channel(settings().connection(gateway_address)) as channel:
            async for message in deployment_pb2_grpc.DeploymentServiceStub(channel).WatchDeployments(watch):
                watched = next((each for each in message.policies if each.deployment.policy == request.policy), None)
                if watched is None:
                    raise NotFoundError(f"expected a deployed policy, got {quoted(request.policy)}")
                route = watched.deployment.route
                if not shadow:
                    # What was counted before the call belongs to nobody's report.
                    shadow, began = _shadow(request.policy, route), time.perf_counter()
                    continue
                if not route.HasField("shadow") or route.shadow.version != shadow:
                    raise FailedPreconditionError(
                        f"expected version {shadow} of {quoted(request.policy)} to stay the shadow, "
                        "but the route was changed"
                    )
                counts.add(watched.activity)
                elapsed = time.perf_counter() - began
                yield make_report(request.policy, route, counts, elapsed)
                if elapsed >= seconds or 0 < request.compared <= counts.compared:
                    return
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None


def make_report(policy: str, route: deployment_pb2.Route, counts: Counts, seconds: float) -> evaluator_pb2.ShadowReport:
    """Makes a report.

    Args:
        policy: The policy.
        route: Its route, with a shadow.
        counts: What was compared.
        seconds: In how long.
    """
    report = evaluator_pb2.ShadowReport(
        policy=policy,
        serving=sorted(entry.version for entry in route.weights),
        shadow=route.shadow.version,
        compared=counts.compared,
        disagreed=counts.disagreed,
        seconds=seconds,
    )
    if counts.compared:
        agreed = counts.compared - counts.disagreed
        interval = stats.binomtest(agreed, counts.compared).proportion_ci(_CONFIDENCE, method="exact")
        report.agreement = agreed / counts.compared
        report.agreement_interval.low, report.agreement_interval.high = float(interval.low), float(interval.high)
    if counts.measured:
        report.mean_distance, half = counts.distance / counts.measured, math.inf
        if counts.measured > 1:
            spread = max(0.0, counts.distance_squared - counts.measured * report.mean_distance**2)
            error = math.sqrt(spread / (counts.measured - 1) / counts.measured)
            half = float(stats.t.ppf((1 + _CONFIDENCE) / 2, counts.measured - 1)) * error
        report.distance_interval.low = max(0.0, report.mean_distance - half)
        report.distance_interval.high = report.mean_distance + half
    return report


def _shadow(policy: str, route: deployment_pb2.Route) -> int:
    if not route.HasField("shadow"):
        raise FailedPreconditionError(f"expected a policy whose route has a shadow, got {quoted(policy)}")
    return route.shadow.version
