"""MLflow's model registry, through its REST API: finds versions, and takes note of aliases."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import httpx

from services.gateway.control.rest import Part, RestClient
from steersman.errors import InvalidArgumentError, NotFoundError

_CALL_SECONDS = 20.0
_OWN_ARTIFACTS = "mlflow-artifacts:/"
"""Where bundles lie that MLflow hands out itself."""

_REFUSED = {httpx.codes.BAD_REQUEST, httpx.codes.CONFLICT, httpx.codes.UNPROCESSABLE_ENTITY}


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a policy in the registry.

    Attributes:
        version: The version, at least 1.
        bundle_uri: Where its bundle lies.
    """

    version: int
    bundle_uri: str


class Registry:
    """Speaks to MLflow's model registry.

    Args:
        url: The tracking server.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = RestClient(f"MLflow at {url}", url, httpx.Timeout(10.0), _CALL_SECONDS)

    async def find(self, policy: str, version: int) -> RegisteredVersion:
        """Finds a version.

        Args:
            policy: The policy, which is the registered model's name.
            version: The version; 0 for the newest.

        Raises:
            NotFoundError: If it is not registered.
            InvalidArgumentError: If the registry refuses to look for it.
            UnavailableError: If the registry cannot be reached, or answers something else.
        """
        found = await self._newest(policy) if version == 0 else await self._get(policy, version)
        if found is None:
            wanted = "a registered version" if version == 0 else f"registered version {version}"
            raise NotFoundError(f"expected {wanted} of policy {policy!r}, but MLflow at {self._url} has none")
        return found

    async def set_alias(self, policy: str, alias: str, version: int) -> None:
        """Points an alias of the registered model at a version; at 0, takes it away. An unregistered one is left alone.

        Raises:
            InvalidArgumentError: If the registry refuses the alias, which it will do again.
            UnavailableError: If the registry cannot be reached, or answers something else.
        """
        fields = {"name": policy, "alias": alias} | ({"version": str(version)} if version else {})
        await self._call("registered-models/alias", fields, "POST" if version else "DELETE")

    async def read_file(self, policy: str, version: int, uri: str, name: str) -> bytes:
        """Reads a small file of a bundle, from wherever MLflow keeps it.

        Args:
            policy: The policy.
            version: The version.
            uri: Where the bundle lies.
            name: The file.

        Raises:
            NotFoundError: If MLflow knows no such file there.
            UnavailableError: If the registry cannot be reached, or answers something else.
        """
        if uri.startswith(_OWN_ARTIFACTS):
            path = quote(f"{uri.removeprefix(_OWN_ARTIFACTS)}/{name}")
            response = await self._client.request("GET", f"/api/2.0/mlflow-artifacts/artifacts/{path}")
        else:
            registered = await self._get(policy, version)
            if registered is None or registered.bundle_uri != uri:
                raise NotFoundError(
                    f"expected version {version} of policy {policy!r} in MLflow with its bundle at {uri}"
                )
            fields = {"name": policy, "version": str(version), "path": name}
            response = await self._client.request("GET", "/model-versions/get-artifact", params=fields)
        if response.status_code in {httpx.codes.NOT_FOUND, *_REFUSED}:
            raise NotFoundError(f"expected {name} at {uri}, but MLflow at {self._url} has none")
        if not response.is_success:
            raise self._client.refusal(response)
        return response.content

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def _newest(self, policy: str) -> RegisteredVersion | None:
        # The name was checked against a pattern without quotes.
        answer = await self._call(
            "model-versions/search",
            {"filter": f"name='{policy}'", "max_results": "1", "order_by": "version_number DESC"},
        )
        versions = answer.optional("model_versions") if answer else None
        return next((_read(entry) for entry in versions.elements()), None) if versions else None

    async def _get(self, policy: str, version: int) -> RegisteredVersion | None:
        answer = await self._call("model-versions/get", {"name": policy, "version": str(version)})
        return _read(answer.field("model_version")) if answer else None

    async def _call(self, endpoint: str, fields: dict[str, str], method: str = "GET") -> Part | None:
        """Calls an endpoint; None if what it is about does not exist."""
        path = f"/api/2.0/mlflow/{endpoint}"
        if method == "GET":
            response = await self._client.request(method, path, params=fields)
        else:
            response = await self._client.request(method, path, json=fields)
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        refusal = self._client.refusal(response)
        if response.status_code in _REFUSED:
            raise InvalidArgumentError(str(refusal))
        if not response.is_success:
            raise refusal
        return self._client.json(response)


def _read(entry: Part) -> RegisteredVersion:
    return RegisteredVersion(entry.field("version").integer(), entry.field("source").text())
