"""Deployments: carries out the admin API, and follows what comes of it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Collection

from services.gateway.control import descriptions
from services.gateway.control.desired import AuditRecord, Change, DesiredPolicy, DesiredState
from services.gateway.control.events import EventLog
from services.gateway.control.ray_serve import RayServe
from services.gateway.control.reconciler import Reconciler
from services.gateway.control.registry import RegisteredVersion, Registry
from services.gateway.control.scaling import Scale, read_scale
from services.gateway.control.shared_state import SharedState
from services.gateway.dispatch.routes import Route
from services.gateway.intake.catalogue import Catalogue, Routing
from services.gateway.intake.waiting_room import WaitingRoom
from steersman.errors import FailedPreconditionError, InvalidArgumentError, SteersmanError
from steersman.settings import Settings
from steersman.v1 import deployment_pb2

_log = logging.getLogger(__name__)

_POLICY_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_CHAMPION = "champion"
_MAX_AUDIT = 1000
_LONGEST_REASON = 1000
_FAILED = deployment_pb2.DEPLOYMENT_STATE_FAILED


class Deployments:
    """Changes what is wanted, and tells how far it is.

    Args:
        settings: For what replicas are told and what they reserve.
        gateways: Internal addresses of all gateways, which replicas attach to.
        ray_serve: Ray Serve.
        registry: The model registry.
        catalogue: Learns which policies are deployed and how they are routed; tells which replicas are attached.
        waiting_room: Learns which policies may be waited for.

    Attributes:
        events: What happened to deployments.
    """

    def __init__(
        self,
        settings: Settings,
        gateways: list[str],
        ray_serve: RayServe,
        registry: Registry,
        catalogue: Catalogue,
        waiting_room: WaitingRoom,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._catalogue = catalogue
        self._waiting_room = waiting_room
        self.events = EventLog()
        self._enabled = bool(settings.ray_dashboard_url)
        catalogue.is_settled = not self._enabled
        self._shared = SharedState(settings.database, self._state_changed)
        self._reconciler = Reconciler(settings, gateways, ray_serve, self._shared, self._looked)
        self._mirroring: set[asyncio.Task[None]] = set()

    async def deploy(self, request: deployment_pb2.DeployRequest, actor: str) -> deployment_pb2.Deployment:
        """Serves a version; see `DeploymentService.Deploy`, as for the other methods.

        Raises:
            SteersmanError: See there.
        """
        self._check(request.policy)
        version = request.version
        if version < 0 or (request.bundle_uri and not version):
            raise InvalidArgumentError(f"expected a version of at least 1, got {version}")

        def resize(kept: Scale | None) -> Scale:
            return read_scale(request, kept, self._settings)

        resize(None)  # refuses what makes no sense before anybody is asked for a bundle
        if request.bundle_uri:
            uris = {version: request.bundle_uri}
        elif version:
            uris = await self._find(request.policy, {version})
        else:
            newest = await self._registry.find(request.policy, 0)
            version, uris = newest.version, {newest.version: newest.bundle_uri}
        change = self._change(actor, request.policy, request.expected_revision)
        route = Route({version: 1.0})
        return self._describe(await self._shared.call(lambda store: store.deploy(change, route, resize, uris)))

    async def undeploy(self, request: deployment_pb2.UndeployRequest, actor: str) -> None:
        """Stops serving a policy."""
        self._check(request.policy)
        change = self._change(actor, request.policy, request.expected_revision)
        await self._shared.call(lambda store: store.undeploy(change))

    async def deployments(self) -> list[deployment_pb2.Deployment]:
        """Lists all deployments, by policy."""
        self._check()
        state = await self._shared.call(lambda store: store.state())
        leaving = {
            name
            for name, application in self._reconciler.applications.items()
            if name not in state.policies and self._is_leaving(name, application["deployed_app_config"])
        }
        return [
            self._describe(state.policies[name]) if name in state.policies else descriptions.leaving(name)
            for name in sorted({*state.policies, *leaving})
        ]

    def known(self) -> list[deployment_pb2.Deployment]:
        """Lists the deployments that are wanted, by policy, as far as this process knows; without the database."""
        return [self._describe(policy) for policy in self._shared.state.policies.values()]

    def in_transition(self, policy: str) -> tuple[int, int]:
        """Counts a policy's replicas that Ray Serve is starting, and those that it is stopping, as of the last look."""
        return descriptions.in_transition(self._reconciler.applications.get(policy))

    async def set_route(self, request: deployment_pb2.SetRouteRequest, actor: str) -> deployment_pb2.Deployment:
        """Splits a policy's traffic."""
        self._check(request.policy)
        route = descriptions.read_route(request.route)
        dispatcher = self._catalogue.get(request.policy)
        if route.shadow and dispatcher and any(version.state for version in dispatcher.versions.values()):
            raise FailedPreconditionError(
                f"expected a policy without memory to shadow, but {request.policy!r} has some: a shadow would need the "
                "state of episodes that it never played"
            )
        uris = await self._find(request.policy, route.versions)
        change = self._change(actor, request.policy, request.expected_revision)
        return self._describe(await self._shared.call(lambda store: store.set_route(change, route, uris)))

    async def set_alias(self, request: deployment_pb2.SetAliasRequest, actor: str) -> deployment_pb2.Deployment:
        """Points an alias at a version."""
        self._check(request.policy)
        alias, version = _alias(request.alias), request.version
        if version < 0:
            raise InvalidArgumentError(f"expected a version of at least 1, or 0 to take the alias away, got {version}")
        uris = await self._find(request.policy, {version} - {0})
        change = self._change(actor, request.policy, request.expected_revision)
        policy = await self._shared.call(lambda store: store.set_alias(change, alias, version, uris))
        self._mirror(policy.name, alias, version)
        return self._describe(policy)

    async def promote(self, request: deployment_pb2.PromoteRequest, actor: str) -> deployment_pb2.Deployment:
        """Moves an alias and all traffic to a version."""
        self._check(request.policy)
        alias, version, from_alias = _alias(request.alias or _CHAMPION), request.version, request.from_alias
        if (version > 0) == bool(from_alias) or version < 0:
            raise InvalidArgumentError(f"expected either a version or an alias, got {version} and {from_alias!r}")
        if len(request.reason) > _LONGEST_REASON:
            raise InvalidArgumentError(
                f"expected a reason of at most {_LONGEST_REASON} characters, got {len(request.reason)}"
            )
        uris = await self._find(request.policy, {version} - {0})
        change = self._change(actor, request.policy, request.expected_revision, request.reason)
        policy = await self._shared.call(lambda store: store.promote(change, alias, version, from_alias, uris))
        self._mirror(policy.name, alias, policy.aliases[alias])
        return self._describe(policy)

    async def rollback(self, request: deployment_pb2.RollbackRequest, actor: str) -> deployment_pb2.Deployment:
        """Goes back to the route before."""
        self._check(request.policy)
        change = self._change(actor, request.policy, request.expected_revision)
        return self._describe(await self._shared.call(lambda store: store.rollback(change)))

    async def audit(self, request: deployment_pb2.ListAuditRequest) -> list[AuditRecord]:
        """Lists what was changed, the latest first."""
        self._check()
        limit = min(request.limit or 100, _MAX_AUDIT)
        return await self._shared.call(lambda store: store.audit(request.policy, limit))

    async def follow(self) -> None:
        """Follows what is wanted and brings it about, until cancelled; without Ray there is nothing to do."""
        if not self._enabled:
            return
        try:
            await asyncio.gather(self._shared.run(), self._reconciler.run())
        finally:
            self._shared.close()
            for task in self._mirroring:
                task.cancel()

    def _change(self, actor: str, policy: str, expected_revision: int, reason: str = "") -> Change:
        dispatcher = self._catalogue.get(policy)
        return Change(actor, policy, expected_revision, (dispatcher.serving or None) if dispatcher else None, reason)

    def _check(self, policy: str | None = None) -> None:
        """Refuses what cannot be done here.

        Raises:
            FailedPreconditionError: If this gateway has no control plane.
            InvalidArgumentError: If the policy's name is none.
        """
        if policy is not None and not _POLICY_NAME.fullmatch(policy):
            raise InvalidArgumentError(
                f"expected a policy of at most 64 lower-case letters, digits, '-' and '_', got {policy!r}"
            )
        if not self._enabled:
            raise FailedPreconditionError("expected a gateway with Ray to deploy on, but this one runs without it")

    async def _find(self, policy: str, versions: Collection[int]) -> dict[int, str]:
        """Finds the bundles of versions that the policy has not had yet. Known ones need no registry."""
        known = await self._shared.call(lambda store: store.uris(policy))
        found: list[RegisteredVersion] = [
            await self._registry.find(policy, version) for version in sorted(versions) if version not in known
        ]
        return {entry.version: entry.bundle_uri for entry in found}

    def _mirror(self, policy: str, alias: str, version: int) -> None:
        """Tells the registry of an alias. Best effort: this database is what counts."""

        async def mirror() -> None:
            try:
                await self._registry.set_alias(policy, alias, version)
            except SteersmanError as error:
                _log.warning("alias %s@%s is not in the registry: %s", policy, alias, error)

        task = asyncio.create_task(mirror())
        self._mirroring.add(task)
        task.add_done_callback(self._mirroring.discard)

    def _state_changed(self, state: DesiredState) -> None:
        self._catalogue.is_settled = True
        self._catalogue.set_routing(
            {
                name: Routing(policy.route, policy.before, policy.aliases, frozenset(policy.uris), policy.revision)
                for name, policy in state.policies.items()
            }
        )
        self._looked()
        self._reconciler.wake()

    def _looked(self) -> None:
        # Before that, what is attached may well be deployed.
        if self._shared.known:
            found = self.known()
            self.events.look(found)
            self._catalogue.set_deployed(
                {deployment.policy: deployment.message for deployment in found}, forget=self._reconciler.has_looked
            )
            self._waiting_room.expect({deployment.policy for deployment in found if deployment.state != _FAILED})

    def _describe(self, policy: DesiredPolicy) -> deployment_pb2.Deployment:
        return descriptions.describe(
            policy,
            self._catalogue.get(policy.name),
            self._reconciler.applications.get(policy.name),
            is_told=self._reconciler.is_as_wanted(policy.name),
            problem=self._reconciler.problem,
            requests_waiting=self._waiting_room.waiting(policy.name),
        )

    def _is_leaving(self, policy: str, config: dict[str, object] | None) -> bool:
        """Tells whether an application that is not wanted is one of ours, of which Ray Serve may have forgotten all."""
        return descriptions.is_policy(config) if config else self._catalogue.get(policy) is not None


def _alias(alias: str) -> str:
    if not _ALIAS.fullmatch(alias):
        raise InvalidArgumentError(
            f"expected an alias of at most 64 lower-case letters, digits, '-' and '_', a letter first, got {alias!r}"
        )
    return alias
