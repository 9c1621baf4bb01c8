"""The protocol's repository of models: what is deployed, and changes to that."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from services.common.rules import MAX_TEXT_BYTES
from services.gateway.control.deployments import Deployments
from services.gateway.intake.catalogue import Catalogue
from steersman.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError, UnavailableError
from steersman.inference.v1 import inference_pb2
from steersman.policy_names import MAX_VERSION
from steersman.quoting import quoted
from steersman.v1 import deployment_pb2

_READY = "READY"
_UNAVAILABLE = "UNAVAILABLE"
_POLL_SECONDS = 0.1


class Repository:
    """Lists, deploys and undeploys policies. These are calls of the admin API by other names, and as free as that.

    Args:
        catalogue: The policies that can answer, and those that are to.
        deployments: Carries changes out.
    """

    def __init__(self, catalogue: Catalogue, deployments: Deployments) -> None:
        self._catalogue = catalogue
        self._deployments = deployments

    def index(self, *, only_ready: bool) -> inference_pb2.RepositoryIndexResponse:
        """Lists every loaded version of every policy, and the policies of which none is loaded.

        Args:
            only_ready: Whether to leave the latter out.
        """
        loaded = {dispatcher.policy: list(dispatcher.versions) for dispatcher in self._catalogue}
        response = inference_pb2.RepositoryIndexResponse()
        for policy in sorted({*loaded, *self._catalogue.deployed}):
            versions = loaded.get(policy)
            for number in versions or ():
                response.models.add(name=policy, version=str(number), state=_READY)
            if not versions and not only_ready:
                reason = self._catalogue.deployed.get(policy) or "no replica is attached"
                response.models.add(name=policy, state=_UNAVAILABLE, reason=reason)
        return response

    async def load(self, request: inference_pb2.RepositoryModelLoadRequest, actor: str) -> None:
        """Deploys a policy and waits until it answers.

        Args:
            request: Which one.
            actor: Who asks.

        Raises:
            SteersmanError: If it cannot be deployed, or its deployment fails.
        """
        policy = request.model_name
        deployment = await self._deployments.deploy(
            deployment_pb2.DeployRequest(
                policy=policy,
                version=_version(request.parameters),
                bundle_uri=_bundle_uri(request.parameters),
            ),
            actor,
        )
        while True:
            try:
                self._catalogue.resolve(f"{policy}:{deployment.version}")
            except (UnavailableError, NotFoundError):
                await self._check(policy, deployment.version)
                await asyncio.sleep(_POLL_SECONDS)
            else:
                return

    async def unload(self, request: inference_pb2.RepositoryModelUnloadRequest, actor: str) -> None:
        """Undeploys a policy.

        Args:
            request: Which one.
            actor: Who asks.

        Raises:
            SteersmanError: If it is not deployed.
        """
        await self._deployments.undeploy(deployment_pb2.UndeployRequest(policy=request.model_name), actor)

    async def _check(self, policy: str, version: int) -> None:
        """Sees to it that there is still something to wait for."""
        found = {entry.policy: entry for entry in await self._deployments.deployments()}.get(policy)
        if found is None or found.version != version:
            raise FailedPreconditionError(
                f"expected version {version} of model {policy!r} to be loaded, but it was replaced"
            )
        if found.state == deployment_pb2.DEPLOYMENT_STATE_FAILED:
            raise FailedPreconditionError(
                f"expected version {version} of model {policy!r} to be loaded: {found.message}"
            )


def _version(parameters: Mapping[str, inference_pb2.ModelRepositoryParameter]) -> int:
    """Gives the version that is wanted; 0 for the newest."""
    value = _value(parameters, "version")
    if value is None:
        return 0
    # Digits that are too many for a version are not even counted.
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(MAX_VERSION)):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_VERSION:
        raise InvalidArgumentError(
            f"expected parameter 'version' as a whole number from 1 to {MAX_VERSION}, got {quoted(value)}"
        )
    return value


def _bundle_uri(parameters: Mapping[str, inference_pb2.ModelRepositoryParameter]) -> str:
    """Gives where the bundle lies; empty for where the registry says."""
    value = _value(parameters, "bundle_uri")
    if value is None:
        return ""
    if not isinstance(value, str) or len(value.encode()) > MAX_TEXT_BYTES:
        raise InvalidArgumentError(
            f"expected parameter 'bundle_uri' as a string_param of at most {MAX_TEXT_BYTES} bytes, got {quoted(value)}"
        )
    return value


def _value(parameters: Mapping[str, inference_pb2.ModelRepositoryParameter], name: str) -> object:
    """Gives the value of a parameter, of whatever kind; None if it is not there."""
    if name not in parameters:
        return None
    kind = parameters[name].WhichOneof("parameter_choice")
    return getattr(parameters[name], kind) if kind else ""
