"""Events: what happened to deployments, noticed by comparing them with how they were before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from steersman.v1 import deployment_pb2

_MAX_KEPT = 1000

_KIND = deployment_pb2.DeploymentEventKind


class EventLog:
    """The latest events.

    Attributes:
        newest: The number of the newest event, counted from 1; 0 before the first.
    """

    def __init__(self) -> None:
        self.newest = 0
        self._events: deque[deployment_pb2.DeploymentEvent] = deque(maxlen=_MAX_KEPT)
        self._seen: dict[str, deployment_pb2.Deployment] = {}

    def update(self, deployments: Iterable[deployment_pb2.Deployment]) -> None:
        """Compares deployments with how they were.

        Args:
            deployments: All of them.
        """
        seen = {deployment.policy: deployment for deployment in deployments}
        for policy, now in seen.items():
            if before := self._seen.get(policy):
                self._compare(before, now)
            else:
                self._note(policy, _KIND.DEPLOYMENT_EVENT_KIND_STATE, "deployed")
        for policy in self._seen.keys() - seen.keys():
            self._note(policy, _KIND.DEPLOYMENT_EVENT_KIND_STATE, "undeployed")
        self._seen = seen

    def since(self, number: int) -> list[deployment_pb2.DeploymentEvent]:
        """Gives the events after one, the earliest first, as far as they are kept.

        Args:
            number: The event's number; see `newest`.
        """
        count = min(self.newest - number, len(self._events))
        return list(self._events)[len(self._events) - count :]

    def _compare(self, before: deployment_pb2.Deployment, now: deployment_pb2.Deployment) -> None:
        if now.replicas_wanted != before.replicas_wanted:
            text = f"{now.replicas_wanted} replicas wanted instead of {before.replicas_wanted}"
            self._note(now.policy, _KIND.DEPLOYMENT_EVENT_KIND_SCALED, text)
        if now.replicas_ready != before.replicas_ready:
            text = f"{now.replicas_ready} replicas ready instead of {before.replicas_ready}"
            self._note(now.policy, _KIND.DEPLOYMENT_EVENT_KIND_REPLICAS, text)
        if now.route != before.route:
            weights = ", ".join(f"{entry.version}={entry.weight:g}" for entry in now.route.weights)
            shadow = f", shadow {now.route.shadow.version}" if now.route.HasField("shadow") else ""
            self._note(now.policy, _KIND.DEPLOYMENT_EVENT_KIND_ROUTED, f"traffic goes to {weights}{shadow}")
        if now.state != before.state:
            name = deployment_pb2.DeploymentState.Name(now.state).removeprefix("DEPLOYMENT_STATE_").lower()
            self._note(now.policy, _KIND.DEPLOYMENT_EVENT_KIND_STATE, f"{name}: {now.message}" if now.message else name)

    def _note(self, policy: str, kind: deployment_pb2.DeploymentEventKind.ValueType, text: str) -> None:
        event = deployment_pb2.DeploymentEvent(policy=policy, kind=kind, text=text)
        event.time.GetCurrentTime()
        self._events.append(event)
        self.newest += 1
