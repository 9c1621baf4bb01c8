"""How far every deployment is, put together from what is wanted, what Ray Serve has and what is attached here."""

from __future__ import annotations

from services.common.supervision import Supervisor
from services.gateway.control import descriptions
from services.gateway.control.conflicts import find_conflicts
from services.gateway.control.desired import DesiredPolicy, DesiredState
from services.gateway.control.events import EventLog
from services.gateway.control.ray_serve.applications import Application
from services.gateway.control.reconciler import Reconciler
from services.gateway.control.shared_state import SharedState
from services.gateway.intake.catalogue import Catalogue
from services.gateway.intake.waiting_room import WaitingRoom
from steersman.v1 import deployment_pb2

RECONCILER = "Ray Serve"
"""The reconciler's name among background tasks; see `Supervisor.problems`."""


class Overview:
    """Describes deployments, and keeps the data plane informed of them.

    Args:
        shared: What is wanted.
        reconciler: What runs.
        supervisor: What keeps the reconciler from its work, if anything does.
        catalogue: Which replicas are attached; learns which policies are deployed.
        waiting_room: What waits for a replica; learns which policies may be waited for.

    Attributes:
        events: What happened to deployments.
    """

    def __init__(
        self,
        shared: SharedState,
        reconciler: Reconciler,
        supervisor: Supervisor,
        catalogue: Catalogue,
        waiting_room: WaitingRoom,
    ) -> None:
        self._shared = shared
        self._reconciler = reconciler
        self._supervisor = supervisor
        self._catalogue = catalogue
        self._waiting_room = waiting_room
        self.events = EventLog()

    def describe(self, policy: DesiredPolicy) -> deployment_pb2.Deployment:
        """Describes one deployment."""
        problem = self._supervisor.problems.get(RECONCILER)
        applications = self._reconciler.applications
        return descriptions.describe(
            policy,
            self._catalogue.get(policy.name),
            self._application(policy.name),
            is_submitted=self._reconciler.is_as_wanted(policy.name),
            conflict=find_conflicts([policy.name], applications).get(policy.name, ""),
            problem=str(problem) if problem else "",
            requests_waiting=self._waiting_room.waiting(policy.name),
        )

    def known(self) -> list[deployment_pb2.Deployment]:
        """Describes the deployments that are wanted, by policy, as far as this process knows; without the database."""
        return [self.describe(policy) for policy in self._shared.state.policies.values()]

    def all(self, state: DesiredState) -> list[deployment_pb2.Deployment]:
        """Describes the deployments of a state, and those that are not wanted any more and still leaving, by policy."""
        leaving = {
            name
            for name, found in self._reconciler.applications.items()
            if name not in state.policies and self._is_leaving(found)
        }
        return [
            self.describe(state.policies[name]) if name in state.policies else descriptions.describe_leaving(name)
            for name in sorted({*state.policies, *leaving})
        ]

    def in_transition(self, policy: str) -> tuple[int, int]:
        """Counts a policy's replicas that Ray Serve is starting, and those that it is stopping, as of the last look."""
        found = self._application(policy)
        return (found.replicas_starting, found.replicas_stopping) if found else (0, 0)

    def notify(self) -> None:
        """Informs the data plane and the event log of how far deployments are."""
        # Before what is wanted has been read, anything that is attached may well be deployed.
        if not self._shared.known:
            return
        found = self.known()
        self.events.update(found)
        self._catalogue.set_deployed(
            {deployment.policy: deployment.message for deployment in found}, forget=self._reconciler.has_looked
        )
        self._waiting_room.expect(
            {deployment.policy for deployment in found if deployment.state != deployment_pb2.DEPLOYMENT_STATE_FAILED}
        )

    def _application(self, policy: str) -> Application | None:
        """Gives a policy's application, if there is one and it is not somebody else's."""
        found = self._reconciler.applications.get(policy)
        return None if found is None or found.is_foreign else found

    def _is_leaving(self, found: Application) -> bool:
        """Tells whether an application that is not wanted is one of ours, of which Ray Serve may have forgotten all."""
        if found.config is None:
            return found.is_declared and self._catalogue.get(found.name) is not None
        return found.is_declared and found.config.is_policy
