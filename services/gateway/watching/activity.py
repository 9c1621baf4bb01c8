"""Activity: what policies do, from counts that are subtracted from earlier ones and summed over gateway processes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.intake.catalogue import Catalogue
from services.gateway.intake.waiting_room import WaitingRoom
from services.gateway.requests.latencies import BUCKETS, percentile
from steersman.v1 import activity_pb2, deployment_pb2


def count(process: str, catalogue: Catalogue, waiting_room: WaitingRoom) -> activity_pb2.GatewayCounts:
    """Writes down what this process has counted so far.

    Args:
        process: Its name.
        catalogue: The policies.
        waiting_room: Where requests wait for the first replica of one.
    """
    counts = activity_pb2.GatewayCounts(process=process)
    for dispatcher in catalogue:
        statistics, shadow = dispatcher.statistics, dispatcher.shadow_statistics
        policy = counts.policies.add(
            policy=dispatcher.policy,
            failures=statistics.failed + statistics.cancelled + statistics.expired + statistics.shed,
            waiting=dispatcher.waiting,
            requests_waiting=waiting_room.waiting(dispatcher.policy),
            compared=shadow.compared,
            disagreed=shadow.disagreed,
            measured=shadow.measured,
            distance=shadow.distance,
            distance_squared=shadow.distance_squared,
        )
        for number, version in statistics.by_version.items():
            policy.versions.add(
                version=number,
                answered=version.answered.count,
                batches=sum(batch.count for batch in version.batches.values()),
                observations=sum(size * batch.count for size, batch in version.batches.items()),
                latencies=version.latencies,
            )
    return counts


@dataclass
class _Sum:
    """What several processes have counted between two times, or one of them altogether."""

    answered: int = 0
    failures: int = 0
    batches: int = 0
    observations: int = 0
    waiting: int = 0
    requests_waiting: int = 0
    compared: int = 0
    disagreed: int = 0
    measured: int = 0
    distance: float = 0.0
    distance_squared: float = 0.0
    latencies: list[int] = field(default_factory=lambda: [0] * BUCKETS)
    by_version: dict[int, int] = field(default_factory=dict)

    def add(self, counts: activity_pb2.PolicyCounts, sign: int) -> None:
        self.failures += sign * counts.failures
        self.compared += sign * counts.compared
        self.disagreed += sign * counts.disagreed
        self.measured += sign * counts.measured
        self.distance += sign * counts.distance
        self.distance_squared += sign * counts.distance_squared
        for version in counts.versions:
            self.answered += sign * version.answered
            self.batches += sign * version.batches
            self.observations += sign * version.observations
            self.by_version[version.version] = self.by_version.get(version.version, 0) + sign * version.answered
            for bucket, latencies in enumerate(version.latencies):
                self.latencies[bucket] += sign * latencies


class Window:
    """Follows the counts of several processes from one look to the next."""

    def __init__(self) -> None:
        self._before: dict[str, activity_pb2.GatewayCounts] = {}
        self._looked = -math.inf

    def look(self, counts: Sequence[activity_pb2.GatewayCounts], now: float) -> dict[str, activity_pb2.Activity]:
        """Gives what each policy did since the last look; all rates are 0 at the first one.

        A process that was not there at the last look counts from its next one on.

        Args:
            counts: What each process has counted.
            now: Seconds of `time.monotonic`.
        """
        seconds = now - self._looked
        sums: dict[str, _Sum] = {}
        for process in counts:
            before = self._before.get(process.process)
            earlier = {policy.policy: policy for policy in before.policies} if before else {}
            for policy in process.policies:
                found = sums.setdefault(policy.policy, _Sum())
                found.waiting += policy.waiting
                found.requests_waiting += policy.requests_waiting
                if before:
                    found.add(policy, 1)
                    if policy.policy in earlier:
                        found.add(earlier[policy.policy], -1)
        self._before = {process.process: process for process in counts}
        self._looked = now
        return {policy: _activity(found, seconds, len(counts)) for policy, found in sums.items()}


def describe_versions(
    activity: activity_pb2.Activity, deployment: deployment_pb2.Deployment, dispatcher: Dispatcher | None
) -> None:
    """Adds to a policy's activity how its versions are routed to and held.

    Args:
        activity: The activity; its versions are those that answered.
        deployment: How the policy is deployed.
        dispatcher: Its dispatcher here, if it has one.
    """
    rates = {version.version: version.requests_per_second for version in activity.versions}
    weights = {entry.version: entry.weight for entry in deployment.route.weights}
    if not weights and deployment.version:
        weights = {deployment.version: 1.0}
    shadow = deployment.route.shadow.version if deployment.route.HasField("shadow") else 0
    total = sum(weights.values())
    attachments = dispatcher.attachments if dispatcher else []
    del activity.versions[:]
    for version in sorted({*weights, *(number for number, rate in rates.items() if rate)} | {shadow} - {0}):
        activity.versions.add(
            version=version,
            share=weights.get(version, 0.0) / total if total else 0.0,
            is_shadow=version == shadow,
            requests_per_second=rates.get(version, 0.0),
            replicas=sum(version in attachment.versions for attachment in attachments),
        )
    activity.replicas_draining = max(activity.replicas_draining, sum(attachment.leaving for attachment in attachments))


def _activity(counted: _Sum, seconds: float, processes: int) -> activity_pb2.Activity:
    activity = activity_pb2.Activity(
        requests_per_second=counted.answered / seconds,
        failures_per_second=counted.failures / seconds,
        observations_per_second=counted.observations / seconds,
        waiting=counted.waiting,
        requests_waiting=counted.requests_waiting,
        gateway_processes=processes,
    )
    if counted.batches:
        activity.mean_batch_size = counted.observations / counted.batches
    p50, p99 = percentile(counted.latencies, 0.5), percentile(counted.latencies, 0.99)
    if p50 is not None and p99 is not None:
        activity.p50_milliseconds, activity.p99_milliseconds = 1000 * p50, 1000 * p99
    if counted.compared:
        activity.shadow_disagreement = counted.disagreed / counted.compared
        activity.shadow_compared, activity.shadow_disagreed = counted.compared, counted.disagreed
        activity.shadow_measured, activity.shadow_distance = counted.measured, counted.distance
        activity.shadow_distance_squared = counted.distance_squared
    for version, answered in counted.by_version.items():
        activity.versions.add(version=version, requests_per_second=answered / seconds)
    return activity
