"""Deployments: what is wanted of Ray Serve, and how far it is.

Ray Serve's own state is the record of what is deployed, so a gateway that starts finds everything again. Each policy is
one Serve application; its `user_config` names the version to hold, which running replicas load without a restart.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

from services.gateway.application import DEPLOYMENT, IMPORT_PATH, write_application
from services.gateway.catalogue import Catalogue
from services.gateway.ray_serve import Application, RayServe
from services.gateway.registry import RegisteredVersion, Registry
from services.gateway.scaling import Scale, read_scale, written_scale
from services.gateway.waiting_room import WaitingRoom
from steersman.errors import InvalidArgumentError, NotFoundError, SteersmanError
from steersman.settings import Settings
from steersman.v1 import deployment_pb2

_log = logging.getLogger(__name__)

_POLICY_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_FOLLOW_SECONDS = 1.0

_ERROR_CLASS = re.compile(r"^[\w.]*Error: ")

_HOPEFUL = {deployment_pb2.DEPLOYMENT_STATE_DEPLOYING, deployment_pb2.DEPLOYMENT_STATE_READY}

_FAILED = {"DEPLOY_FAILED", "UNHEALTHY"}


class Deployments:
    """Deploys policies on Ray Serve.

    Args:
        settings: For what replicas are told and what they reserve.
        gateways: Internal addresses of all gateways, which replicas attach to.
        ray_serve: Ray Serve.
        registry: The model registry.
        catalogue: Learns which policies are deployed; tells which replicas are attached.
        waiting_room: Learns which policies may be waited for.
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
        self._gateways = gateways
        self._ray_serve = ray_serve
        self._registry = registry
        self._catalogue = catalogue
        self._waiting_room = waiting_room
        # A change reads all applications and writes all of them back.
        self._changing = asyncio.Lock()

    async def deploy(self, request: deployment_pb2.DeployRequest) -> deployment_pb2.Deployment:
        """Serves a version; see `DeploymentService.Deploy`.

        Raises:
            SteersmanError: See there.
        """
        policy, version, bundle_uri = request.policy, request.version, request.bundle_uri
        if not _POLICY_NAME.fullmatch(policy):
            raise InvalidArgumentError(
                f"expected a policy of at most 64 lower-case letters, digits, '-' and '_', got {policy!r}"
            )
        if version < 0 or (bundle_uri and not version):
            raise InvalidArgumentError(f"expected a version of at least 1, got {version}")
        read_scale(request, None, self._settings)
        if bundle_uri:
            registered = RegisteredVersion(version, bundle_uri)
        else:
            registered = await self._registry.find(policy, version)
        async with self._changing:
            configs = await self._configs()
            kept = written_scale(_deployment_config(configs[policy])) if policy in configs else None
            scale = read_scale(request, kept, self._settings)
            configs[policy] = write_application(
                policy, {registered.version: registered.bundle_uri}, scale, self._gateways, self._settings
            )
            await self._ray_serve.replace(list(configs.values()))
        # Requests may wait for it from now on.
        await self.list()
        return self._describe(policy, {"status": "DEPLOYING", "deployed_app_config": configs[policy]})

    async def undeploy(self, policy: str) -> None:
        """Stops serving a policy; see `DeploymentService.Undeploy`.

        Raises:
            SteersmanError: See there.
        """
        async with self._changing:
            configs = await self._configs()
            if policy not in configs or not _is_policy(configs[policy]):
                raise NotFoundError(f"expected a deployed policy, got {policy!r}")
            del configs[policy]
            await self._ray_serve.replace(list(configs.values()))

    async def list(self) -> list[deployment_pb2.Deployment]:
        """Lists all deployments, by policy.

        Raises:
            UnavailableError: If Ray cannot be reached.
        """
        applications = await self._ray_serve.applications()
        deployments = [
            self._describe(name, application)
            for name, application in sorted(applications.items())
            if _is_policy(application["deployed_app_config"]) or self._is_leaving(name, application)
        ]
        self._catalogue.set_deployed(
            {
                deployment.policy: deployment.message
                for deployment in deployments
                if deployment.state != deployment_pb2.DEPLOYMENT_STATE_DELETING
            }
        )
        states = {deployment.policy: deployment.state for deployment in deployments}
        self._waiting_room.expect({policy for policy, state in states.items() if state in _HOPEFUL})
        return deployments

    async def follow(self) -> None:
        """Keeps the catalogue informed, until cancelled. While Ray cannot be reached, what was known stays."""
        if not self._settings.ray_dashboard_url:
            return
        reachable = True
        while True:
            try:
                await self.list()
                reachable = True
            except SteersmanError as error:
                if reachable:
                    _log.warning("%s", error)
                reachable = False
            await asyncio.sleep(_FOLLOW_SECONDS)

    async def _configs(self) -> dict[str, Application]:
        """Reads the configs of all applications that are to stay, other people's too."""
        return {
            name: application["deployed_app_config"]
            for name, application in (await self._ray_serve.applications()).items()
            if application["status"] != "DELETING" and application["deployed_app_config"]
        }

    def _describe(self, policy: str, application: Application) -> deployment_pb2.Deployment:
        if application["status"] == "DELETING":
            return deployment_pb2.Deployment(
                policy=policy,
                state=deployment_pb2.DEPLOYMENT_STATE_DELETING,
                message="waits for its replicas to finish what they have",
            )
        config = _deployment_config(application["deployed_app_config"])
        ((version, bundle_uri),) = config["user_config"]["versions"].items()
        scale = written_scale(config)
        deployment = deployment_pb2.Deployment(
            policy=policy,
            version=int(version),
            bundle_uri=bundle_uri,
            replicas_wanted=_wanted(application, scale),
            replicas_ready=self._ready(policy, int(version)),
            min_replicas=scale.min_replicas,
            max_replicas=scale.max_replicas,
            replica_cpus=scale.replica_cpus,
            replica_gpus=scale.replica_gpus,
            requests_waiting=self._waiting_room.waiting(policy),
        )
        status = application["status"]
        failure = self._failure(policy, int(version))
        if status in _FAILED or failure:
            deployment.state = deployment_pb2.DEPLOYMENT_STATE_FAILED
            deployment.message = failure or _reason(application)
        elif deployment.replicas_ready >= deployment.replicas_wanted:
            deployment.state = deployment_pb2.DEPLOYMENT_STATE_READY
        else:
            deployment.state = deployment_pb2.DEPLOYMENT_STATE_DEPLOYING
            deployment.message = (
                f"waits for {deployment.replicas_wanted - deployment.replicas_ready} of {deployment.replicas_wanted} "
                f"replicas to start, load version {version} and attach"
            )
        return deployment

    def _is_leaving(self, policy: str, application: Application) -> bool:
        """Tells whether an application that is being deleted is one of ours; Ray Serve has forgotten its config."""
        return application["status"] == "DELETING" and self._catalogue.get(policy) is not None

    def _ready(self, policy: str, version: int) -> int:
        dispatcher = self._catalogue.get(policy)
        if dispatcher is None:
            return 0
        return sum(version in attachment.versions and not attachment.leaving for attachment in dispatcher.attachments)

    def _failure(self, policy: str, version: int) -> str:
        """Says why replicas that go on with other versions could not load this one; empty if none failed."""
        dispatcher = self._catalogue.get(policy)
        for attachment in dispatcher.attachments if dispatcher else []:
            if version in attachment.failed_versions and not attachment.leaving:
                others = ", ".join(map(str, attachment.versions))
                return f"{attachment.failed_versions[version]}; version {others} goes on"
        return ""


def _is_policy(config: dict[str, Any] | None) -> bool:
    return config is not None and config["import_path"] == IMPORT_PATH


def _deployment_config(config: dict[str, Any]) -> dict[str, Any]:
    deployment: dict[str, Any] = config["deployments"][0]
    return deployment


def _wanted(application: Application, scale: Scale) -> int:
    """Tells how many replicas Ray Serve wants now, which it does not know before it has read the config."""
    deployment = application.get("deployments", {}).get(DEPLOYMENT, {})
    wanted: int = deployment.get("target_num_replicas", scale.min_replicas)
    # The limits hold at once, the number of replicas follows.
    return min(max(wanted, scale.min_replicas), scale.max_replicas)


def _reason(application: Application) -> str:
    """Takes the most telling message that Ray Serve has, without the traceback that may follow."""
    messages = [deployment["message"] for deployment in application.get("deployments", {}).values()]
    text = next((message for message in messages if message), application.get("message", "")).strip()
    if not text:
        return "Ray Serve gives no reason; its log says more"
    # The last line of a traceback is "package.module.ErrorClass: what happened".
    return _ERROR_CLASS.sub("", text.splitlines()[-1])
