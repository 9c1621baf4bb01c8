"""MLflow's model registry, through its REST API: finds versions, and takes note of aliases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from steersman.errors import NotFoundError, UnavailableError


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
        self._client = httpx.AsyncClient(base_url=f"{url}/api/2.0/mlflow/", timeout=10.0)

    async def find(self, policy: str, version: int) -> RegisteredVersion:
        """Finds a version.

        Args:
            policy: The policy, which is the registered model's name.
            version: The version; 0 for the newest.

        Raises:
            NotFoundError: If it is not registered.
            UnavailableError: If the registry cannot be reached or answers with an error.
        """
        found = await self._newest(policy) if version == 0 else await self._get(policy, version)
        if found is None:
            wanted = "a registered version" if version == 0 else f"registered version {version}"
            raise NotFoundError(f"expected {wanted} of policy {policy!r}, but MLflow at {self._url} has none")
        return found

    async def set_alias(self, policy: str, alias: str, version: int) -> None:
        """Points an alias of the registered model at a version; at 0, takes it away. An unregistered one is left alone.

        Raises:
            UnavailableError: If the registry cannot be reached or answers with an error.
        """
        fields = {"name": policy, "alias": alias} | ({"version": str(version)} if version else {})
        await self._ask("registered-models/alias", fields, "POST" if version else "DELETE")

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _newest(self, policy: str) -> RegisteredVersion | None:
        # The name was checked against a pattern without quotes.
        answer = await self._ask(
            "model-versions/search",
            {"filter": f"name='{policy}'", "max_results": "1", "order_by": "version_number DESC"},
        )
        versions = answer.get("model_versions", []) if answer else []
        return _read(versions[0]) if versions else None

    async def _get(self, policy: str, version: int) -> RegisteredVersion | None:
        answer = await self._ask("model-versions/get", {"name": policy, "version": str(version)})
        return _read(answer["model_version"]) if answer else None

    async def _ask(self, endpoint: str, fields: dict[str, str], method: str = "GET") -> dict[str, Any] | None:
        arguments: dict[str, Any] = {"params": fields} if method == "GET" else {"json": fields}
        try:
            response = await self._client.request(method, endpoint, **arguments)
        except httpx.HTTPError as error:
            raise UnavailableError(f"cannot reach MLflow at {self._url}: {error or type(error).__name__}") from error
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        if response.is_error:
            raise UnavailableError(f"MLflow at {self._url} answered {response.status_code}: {response.text[:200]}")
        answer: dict[str, Any] = response.json()
        return answer


def _read(entry: dict[str, str]) -> RegisteredVersion:
    return RegisteredVersion(int(entry["version"]), entry["source"])
