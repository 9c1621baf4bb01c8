"""Ray Serve's declarative REST API: applications as they are, and as they should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from steersman.errors import FailedPreconditionError, UnavailableError

_REPLICA_REQUEST_SECONDS = 5.0

Application = dict[str, Any]
"""An application in Ray Serve's own JSON: `ApplicationDetails` when read, `ServeApplicationSchema` when written."""


class RayServe:
    """Talks to Ray's dashboard.

    Args:
        url: The dashboard; empty for a gateway without Ray.
        token_file: Ray's authentication token; without such a file no token is sent.
        http_host: Where Ray Serve shall answer plain HTTP, once it is started.
        http_port: Its port.
    """

    def __init__(self, url: str, token_file: Path, http_host: str, http_port: int) -> None:
        self._url = url
        self._token_file = token_file
        self._http_options = {"host": http_host, "port": http_port}
        # The first deployment starts Ray Serve itself, which takes several seconds.
        self._client = httpx.AsyncClient(base_url=url, timeout=httpx.Timeout(10.0, read=60.0))

    async def applications(self) -> dict[str, Application]:
        """Lists all applications by name, as they are.

        Raises:
            UnavailableError: If Ray cannot be reached or answers with an error.
        """
        details = (await self._request("GET")).json()
        applications: dict[str, Application] = details["applications"]
        return applications

    async def replace(self, applications: list[Application]) -> None:
        """Says which applications there shall be; all others are deleted.

        Raises:
            UnavailableError: If Ray cannot be reached or refuses.
        """
        config = {
            "proxy_location": "HeadOnly",
            "http_options": self._http_options,
            "applications": applications,
        }
        await self._request("PUT", config)

    async def request_replica(self, policy: str) -> None:
        """Asks for a replica of a policy, as plain HTTP would: the one thing that makes Ray Serve scale up from zero.

        Ray Serve holds such a request back until there is a replica, and its controller hears of it at once. It changes
        no config, so it needs no coordination among gateways, and none with what is being deployed.

        Args:
            policy: A policy that is deployed.

        Raises:
            UnavailableError: If Ray Serve cannot be reached.
        """
        url = f"http://{self._http_options['host']}:{self._http_options['port']}/{policy}"
        try:
            await self._client.get(url, timeout=_REPLICA_REQUEST_SECONDS)
        except httpx.ReadTimeout:
            pass  # it waits for the replica, as it should
        except httpx.HTTPError as error:
            raise UnavailableError(f"cannot reach Ray Serve at {url}: {error or type(error).__name__}") from error

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def _request(self, method: str, body: dict[str, Any] | None = None) -> httpx.Response:
        if not self._url:
            raise FailedPreconditionError("expected a gateway with Ray to deploy on, but this one runs without it")
        headers = {}
        if self._token_file.exists():
            headers["Authorization"] = f"Bearer {self._token_file.read_text().strip()}"
        try:
            response = await self._client.request(method, "/api/serve/applications/", json=body, headers=headers)
        except httpx.HTTPError as error:
            raise UnavailableError(f"cannot reach Ray at {self._url}: {error or type(error).__name__}") from error
        if response.is_error:
            raise UnavailableError(f"Ray Serve at {self._url} answered {response.status_code}: {response.text[:500]}")
        return response
