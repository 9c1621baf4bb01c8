"""Watching: what every policy does, over and over, for those who follow."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator

from services.gateway.control.deployments import Deployments
from services.gateway.intake.catalogue import Catalogue
from services.gateway.intake.waiting_room import WaitingRoom
from services.gateway.replicas.peers import Peers
from services.gateway.watching.activity import Window, count, describe_versions
from steersman.errors import InvalidArgumentError, UnavailableError
from steersman.v1 import activity_pb2, deployment_pb2

_DEFAULT_MILLISECONDS = 1000
_SHORTEST_MILLISECONDS = 100
_LONGEST_MILLISECONDS = 60_000


class Watching:
    """Puts together what is counted here and at the other processes, and how policies are deployed.

    Args:
        catalogue: The policies.
        waiting_room: Where requests wait for the first replica of one.
        deployments: How they are deployed.
        peers: The other processes.
    """

    def __init__(self, catalogue: Catalogue, waiting_room: WaitingRoom, deployments: Deployments, peers: Peers) -> None:
        self._catalogue = catalogue
        self._waiting_room = waiting_room
        self._deployments = deployments
        self._peers = peers
        self._process = secrets.token_hex(8)
        self._closed = asyncio.Event()

    def close(self) -> None:
        """Ends all watching, since the gateway stops."""
        self._closed.set()

    def count(self) -> activity_pb2.GatewayCounts:
        """Writes down what this process has counted so far."""
        return count(self._process, self._catalogue, self._waiting_room)

    async def watch(
        self, request: deployment_pb2.WatchDeploymentsRequest
    ) -> AsyncIterator[deployment_pb2.WatchDeploymentsResponse]:
        """Follows policies; see `DeploymentService.WatchDeployments`.

        Raises:
            InvalidArgumentError: If the interval is none.
            UnavailableError: When the gateway stops.
        """
        milliseconds = request.interval_milliseconds or _DEFAULT_MILLISECONDS
        if not _SHORTEST_MILLISECONDS <= milliseconds <= _LONGEST_MILLISECONDS:
            raise InvalidArgumentError(
                f"expected an interval of {_SHORTEST_MILLISECONDS} to {_LONGEST_MILLISECONDS} ms, got {milliseconds}"
            )
        window, events = Window(), self._deployments.overview.events
        newest, due = events.newest, time.monotonic()
        while not self._closed.is_set():
            counts = [self.count(), *await self._peers.counts()]
            response = deployment_pb2.WatchDeploymentsResponse(
                policies=self._policies(window.look(counts, time.monotonic()), len(counts)),
                events=events.since(newest),
            )
            newest = events.newest
            response.time.GetCurrentTime()
            if request.policy:
                _leave_only(response, request.policy)
            yield response
            # A reader that is slow gets fewer messages, and each covers the time since the one before.
            due = max(due + milliseconds / 1000, time.monotonic())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due - time.monotonic()):
                    await self._closed.wait()
        raise UnavailableError("this gateway is stopping; watch another one")

    def _policies(
        self, activities: dict[str, activity_pb2.Activity], processes: int
    ) -> list[deployment_pb2.WatchedPolicy]:
        deployments = {deployment.policy: deployment for deployment in self._deployments.overview.known()}
        watched = []
        for name in sorted({*deployments, *(dispatcher.policy for dispatcher in self._catalogue)}):
            dispatcher = self._catalogue.get(name)
            deployment = deployments.get(name)
            if deployment is None:
                newest = dispatcher.default_version if dispatcher else None
                deployment = deployment_pb2.Deployment(
                    policy=name,
                    version=newest.number if newest else 0,
                    replicas_ready=len(dispatcher.attachments) if dispatcher else 0,
                )
            activity = activities.get(name) or activity_pb2.Activity(gateway_processes=processes)
            activity.replicas_starting, activity.replicas_draining = self._deployments.overview.in_transition(name)
            describe_versions(activity, deployment, dispatcher)
            watched.append(deployment_pb2.WatchedPolicy(deployment=deployment, activity=activity))
        return watched


def _leave_only(response: deployment_pb2.WatchDeploymentsResponse, policy: str) -> None:
    """Leaves one policy in a message."""
    policies = [watched for watched in response.policies if watched.deployment.policy == policy]
    events = [event for event in response.events if event.policy == policy]
    del response.policies[:], response.events[:]
    response.policies.extend(policies)
    response.events.extend(events)
