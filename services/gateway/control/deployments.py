"""Deployments: carries out the admin API, and follows what comes of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping

from services.common.supervision import Supervisor
from services.gateway.control import descriptions
from services.gateway.control.alias_mirror import AliasMirror
from services.gateway.control.bundle_specs import BundleSpecs
from services.gateway.control.desired import AuditRecord, Change, DesiredState
from services.gateway.control.overview import RECONCILER, Overview
from services.gateway.control.ray_serve.client import RayServe
from services.gateway.control.reconciler import Reconciler
from services.gateway.control.registry import RegisteredVersion, Registry
from services.gateway.control.request_ids import ChangeRequest, fingerprint_of, read_request_id
from services.gateway.control.route_checks import check_route
from services.gateway.control.scaling import Scale, read_scale
from services.gateway.control.shared_state import SharedState
from services.gateway.dispatch.routes import Route
from services.gateway.intake.catalogue import Catalogue, Routing
from services.gateway.intake.waiting_room import WaitingRoom
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.quoting import quoted
from steersman.settings import Settings
from steersman.v1 import deployment_pb2

_POLICY_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_ALIAS = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_CHAMPION = "champion"
_MAX_AUDIT = 1000
_LONGEST_REASON = 1000
_MAX_VERSION = 2**31 - 1
"""What the database and MLflow have room for."""


class Deployments:
    """Changes what is wanted, and says how far it is.

    Args:
        settings: For the arguments of replicas and what they reserve.
        gateways: Internal addresses of all gateways, which replicas attach to.
        ray_serve: Ray Serve.
        registry: The model registry.
        catalogue: Learns which policies are deployed and how they are routed; knows which replicas are attached.
        waiting_room: Learns which policies may be waited for.
        supervisor: Keeps what happens in the background going.

    Attributes:
        overview: How far deployments are.
    """

    def __init__(
        self,
        settings: Settings,
        gateways: list[str],
        ray_serve: RayServe,
        registry: Registry,
        catalogue: Catalogue,
        waiting_room: WaitingRoom,
        supervisor: Supervisor,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._catalogue = catalogue
        self._enabled = bool(settings.ray_dashboard_url)
        catalogue.is_settled = not self._enabled
        if self._enabled:
            waiting_room.expect_anything()
        self._supervisor = supervisor
        self._shared = SharedState(settings.database, self._state_changed)
        self._reconciler = Reconciler(settings, gateways, ray_serve, self._shared, lambda: self.overview.notify())
        self._aliases = AliasMirror(registry)
        self._bundle_specs = BundleSpecs(registry)
        self.overview = Overview(self._shared, self._reconciler, supervisor, catalogue, waiting_room)

    async def deploy(self, request: deployment_pb2.DeployRequest, actor: str) -> deployment_pb2.Deployment:
        """Serves a version; see `DeploymentService.Deploy`, as for the other methods.

        Raises:
            SteersmanError: See there.
        """
        change, version = self._change(request, actor), request.version
        if request.bundle_uri and not version:
            raise InvalidArgumentError("expected a version of at least 1 for a bundle, got 0")
        _check_versions({version})

        def resize(kept: Scale | None) -> Scale:
            return read_scale(request, kept, self._settings)

        resize(None)  # refuses what makes no sense before anybody is asked for a bundle
        if (earlier := await self._earlier(change)) is not None:
            return earlier
        if request.bundle_uri:
            uris = {version: request.bundle_uri}
        elif version:
            uris = await self._find(request.policy, {version})
        else:
            newest = await self._registry.find(request.policy, 0)
            version, uris = newest.version, {newest.version: newest.bundle_uri}
        route = Route({version: 1.0})
        return self.overview.describe(await self._shared.call(lambda store: store.deploy(change, route, resize, uris)))

    async def undeploy(self, request: deployment_pb2.UndeployRequest, actor: str) -> None:
        """Stops serving a policy."""
        change = self._change(request, actor)
        await self._shared.call(lambda store: store.undeploy(change))

    async def deployments(self) -> list[deployment_pb2.Deployment]:
        """Lists all deployments, by policy."""
        self._check()
        state = await self._shared.call(lambda store: store.state())
        return self.overview.all(state)

    def problems(self) -> list[str]:
        """Says what keeps this process from bringing about what is wanted."""
        return [f"{task}: {problem}" for task, problem in self._supervisor.problems.items()]

    async def set_route(self, request: deployment_pb2.SetRouteRequest, actor: str) -> deployment_pb2.Deployment:
        """Splits a policy's traffic."""
        change, route = self._change(request, actor), descriptions.read_route(request.route)
        _check_versions(route.versions)
        if (earlier := await self._earlier(change)) is not None:
            return earlier
        uris = await self._find(request.policy, route.versions)
        await self._check_route(request.policy, route, uris)
        return self.overview.describe(await self._shared.call(lambda store: store.set_route(change, route, uris)))

    async def set_alias(self, request: deployment_pb2.SetAliasRequest, actor: str) -> deployment_pb2.Deployment:
        """Points an alias at a version."""
        change, alias, version = self._change(request, actor), _alias(request.alias), request.version
        _check_versions({version})
        if (earlier := await self._earlier(change)) is not None:
            return earlier
        uris = await self._find(request.policy, {version} - {0})
        policy = await self._shared.call(lambda store: store.set_alias(change, alias, version, uris))
        self._aliases.set(policy.name, alias, version)
        return self.overview.describe(policy)

    async def promote(self, request: deployment_pb2.PromoteRequest, actor: str) -> deployment_pb2.Deployment:
        """Moves an alias and all traffic to a version."""
        if len(request.reason) > _LONGEST_REASON:
            raise InvalidArgumentError(
                f"expected a reason of at most {_LONGEST_REASON} characters, got {len(request.reason)}"
            )
        change = self._change(request, actor, request.reason)
        alias, version, from_alias = _alias(request.alias or _CHAMPION), request.version, request.from_alias
        if (version != 0) == bool(from_alias):
            raise InvalidArgumentError(f"expected either a version or an alias, got {version} and {quoted(from_alias)}")
        _check_versions({version})
        if (earlier := await self._earlier(change)) is not None:
            return earlier
        uris = await self._find(request.policy, {version} - {0})
        policy = await self._shared.call(lambda store: store.promote(change, alias, version, from_alias, uris))
        self._aliases.set(policy.name, alias, policy.aliases[alias])
        return self.overview.describe(policy)

    async def rollback(self, request: deployment_pb2.RollbackRequest, actor: str) -> deployment_pb2.Deployment:
        """Goes back to the route before."""
        change = self._change(request, actor)
        if (earlier := await self._earlier(change)) is not None:
            return earlier
        wanted = (await self._shared.call(lambda store: store.state())).policies.get(request.policy)
        if wanted and wanted.before:
            await self._check_route(request.policy, wanted.before, {})
        return self.overview.describe(await self._shared.call(lambda store: store.rollback(change)))

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
            await asyncio.gather(
                self._supervisor.repeat("the database", self._shared.step),
                self._supervisor.repeat(RECONCILER, self._reconciler.step, self._reconciler.changed),
                self._supervisor.repeat("aliases in the registry", self._aliases.step),
            )
        finally:
            self._shared.close()

    def _change(self, request: ChangeRequest, actor: str, reason: str = "") -> Change:
        """Reads who asks to change which policy.

        Raises:
            FailedPreconditionError: If this gateway has no control plane.
            InvalidArgumentError: If the policy's name or the request's id is none.
        """
        if not _POLICY_NAME.fullmatch(request.policy):
            raise InvalidArgumentError(
                f"expected a policy of at most 64 lower-case letters, digits, '-' and '_', got {quoted(request.policy)}"
            )
        self._check()
        dispatcher = self._catalogue.get(request.policy)
        return Change(
            actor,
            request.policy,
            request.expected_revision,
            (dispatcher.serving or None) if dispatcher else None,
            reason,
            read_request_id(request.request_id),
            fingerprint_of(request) if request.request_id else "",
        )

    async def _earlier(self, change: Change) -> deployment_pb2.Deployment | None:
        """Gives what a request has made already, if it is one that is sent again: nothing is looked up for it anew."""
        if not change.request_id:
            return None
        earlier = await self._shared.call(lambda store: store.outcome(change))
        return self.overview.describe(earlier.policy) if earlier and earlier.policy else None

    def _check(self) -> None:
        """Refuses everything at a gateway without a control plane.

        Raises:
            FailedPreconditionError: If this is one.
        """
        if not self._enabled:
            raise FailedPreconditionError("expected a gateway with Ray to deploy on, but this one runs without it")

    async def _find(self, policy: str, versions: Collection[int]) -> dict[int, str]:
        """Finds the bundles of versions that the policy has not had yet. Known ones need no registry."""
        known = await self._shared.call(lambda store: store.uris(policy))
        found: list[RegisteredVersion] = [
            await self._registry.find(policy, version) for version in sorted(versions) if version not in known
        ]
        return {entry.version: entry.bundle_uri for entry in found}

    async def _check_route(self, policy: str, route: Route, found: Mapping[int, str]) -> None:
        """Checks that requests may go to any version of a route, as far as it is known what these take and give.

        Args:
            policy: The policy.
            route: The route.
            found: Where bundles lie of versions that the policy has not had yet.

        Raises:
            FailedPreconditionError: If they may not.
        """
        if len(route.versions) == 1:
            return
        dispatcher = self._catalogue.get(policy)
        loaded = dispatcher.versions if dispatcher else {}
        specs = {version: loaded[version].spec for version in route.versions if version in loaded}
        uris = await self._shared.call(lambda store: store.uris(policy)) | dict(found)
        missing = {version: uris[version] for version in route.versions if version in uris and version not in specs}
        check_route(policy, route, specs | await self._bundle_specs.read(policy, missing))

    def _state_changed(self, state: DesiredState) -> None:
        self._catalogue.is_settled = True
        self._catalogue.set_routing(
            {
                name: Routing(policy.route, policy.before, policy.aliases, frozenset(policy.uris), policy.revision)
                for name, policy in state.policies.items()
            }
        )
        self.overview.notify()
        self._reconciler.changed.set()


def _alias(alias: str) -> str:
    if not _ALIAS.fullmatch(alias):
        raise InvalidArgumentError(
            "expected an alias of at most 64 lower-case letters, digits, '-' and '_', a letter first, got "
            f"{quoted(alias)}"
        )
    return alias


def _check_versions(versions: Collection[int]) -> None:
    for version in versions:
        if not 0 <= version <= _MAX_VERSION:
            raise InvalidArgumentError(f"expected a version from 1 to {_MAX_VERSION}, got {version}")
