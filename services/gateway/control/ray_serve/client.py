"""Ray Serve's declarative REST API: how things are, and how they should be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import httpx

from services.common.files import read_bounded
from services.gateway.control.ray_serve.applications import ApplicationConfig, Instance
from services.gateway.control.ray_serve.reading import read_instance
from services.gateway.control.ray_serve.writing import route_of
from services.gateway.control.rest import RestClient
from steersman.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError

_PATH = "/api/serve/applications/"
_MAX_TOKEN_BYTES = 64 * 1024
_CALL_SECONDS = 90.0
# The first deployment starts Ray Serve itself, which takes several seconds.
_TIMEOUT = httpx.Timeout(10.0, read=60.0)
_REPLICA_REQUEST_SECONDS = 5.0


class RayServe:
    """Talks to Ray's dashboard.

    Args:
        url: The dashboard; empty for a gateway without Ray.
        token_file: Ray's authentication token; without such a file no token is sent.
        http_host: Where Ray Serve shall answer plain HTTP, if it is started for Steersman.
        http_port: Its port.
    """

    def __init__(self, url: str, token_file: Path, http_host: str, http_port: int) -> None:
        self._url = url
        self._token_file = token_file
        self._http_host, self._http_port = http_host, http_port
        self._dashboard = RestClient(f"Ray's dashboard at {url}", url, _TIMEOUT, _CALL_SECONDS)
        http_url = f"http://{http_host}:{http_port}"
        self._http = RestClient(f"Ray Serve at {http_url}", http_url, _TIMEOUT, _REPLICA_REQUEST_SECONDS)

    async def instance(self) -> Instance:
        """Reads all that runs.

        Raises:
            UnavailableError: If Ray cannot be reached, or answers with something else than Ray Serve's state.
        """
        return read_instance(self._dashboard.json(await self._request("GET")))

    async def replace(self, applications: Sequence[ApplicationConfig], target_capacity: float | None) -> None:
        """Says which applications there shall be; all others that were declared are deleted.

        Ray Serve takes only the whole set. What it was started with (its HTTP address, where its proxies run) holds
        until it is started again, whatever is said here.

        Args:
            applications: The applications.
            target_capacity: See `Instance`; what was read, so that it stays.

        Raises:
            UnavailableError: If Ray cannot be reached or refuses.
        """
        config: dict[str, object] = {
            "proxy_location": "HeadOnly",
            "http_options": {"host": self._http_host, "port": self._http_port},
            "applications": [dict(application.json) for application in applications],
        }
        if target_capacity is not None:
            config["target_capacity"] = target_capacity
        await self._request("PUT", config)

    async def request_replica(self, policy: str) -> None:
        """Asks for a replica of a policy, as plain HTTP would: the one thing that makes Ray Serve scale up from zero.

        Ray Serve holds such a request back until there is a replica, and its controller hears of it at once. It changes
        no config, so it needs no coordination among gateways, and none with what is being deployed.

        Args:
            policy: A policy that is deployed.

        Raises:
            UnavailableError: If Ray Serve cannot be reached, or does not answer soon: it waits for the replica then.
        """
        await self._http.request("GET", route_of(policy))

    async def close(self) -> None:
        """Closes the connections."""
        await self._dashboard.close()
        await self._http.close()

    async def _request(self, method: str, body: dict[str, object] | None = None) -> httpx.Response:
        if not self._url:
            raise FailedPreconditionError("expected a gateway with Ray to deploy on, but this one runs without it")
        token = self._token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        response = await self._dashboard.request(method, _PATH, json=body, headers=headers)
        if not response.is_success:
            raise self._dashboard.refusal(response)
        return response

    def _token(self) -> str:
        """Reads Ray's token, which may change while the gateway runs; empty without such a file.

        Raises:
            UnavailableError: If there is one that cannot be read, or is no token.
        """
        try:
            if not self._token_file.exists():
                return ""
            content = read_bounded(self._token_file, _MAX_TOKEN_BYTES)
        except (InvalidArgumentError, OSError) as error:
            raise UnavailableError(f"expected to read Ray's token: {error}") from error
        token = content.decode("ascii", "replace").strip()
        if not token.isascii() or not token.isprintable() or " " in token:
            # Not quoted: it may be a secret all the same.
            raise UnavailableError(f"expected one word of printable ASCII as Ray's token in {self._token_file}")
        return token
