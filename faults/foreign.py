"""An application of somebody else on the same Ray Serve: deployed, used and removed with Ray Serve's own API."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self

import httpx

from steersman.errors import InternalError, UnavailableError
from steersman.settings import Settings

NAME = "colleague"
ROUTE = "colleagues-route"

_PAUSE_SECONDS = 0.05
_DEPLOY_SECONDS = 60.0
_APPLICATION = {
    "name": NAME,
    "route_prefix": f"/{ROUTE}",
    "import_path": "faults.foreign_app:build",
    "args": {},
}


class ForeignApplication:
    """The application from the beginning of the block, when it answers, to its end, when it is gone.

    Args:
        settings: Those of the stack whose Ray Serve it shares.
    """

    def __init__(self, settings: Settings) -> None:
        token = settings.ray_token_file.read_text().strip()
        self._serve = httpx.AsyncClient(
            base_url=settings.ray_dashboard_url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
            trust_env=False,
        )
        self._user = httpx.AsyncClient(base_url=f"http://{settings.serve_http_address}", timeout=10, trust_env=False)
        self._options = {"host": "127.0.0.1", "port": int(settings.serve_http_address.rpartition(":")[2])}

    async def __aenter__(self) -> Self:
        await self._replace(lambda others: [*others, _APPLICATION])
        await self._until(lambda found: found.get(NAME, {}).get("status") == "RUNNING")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._replace(lambda others: others)
            await self._until(lambda found: NAME not in found)
        finally:
            await self._serve.aclose()
            await self._user.aclose()

    @contextlib.asynccontextmanager
    async def used(self) -> AsyncIterator[None]:
        """Uses it over and over until the end of the block.

        Raises:
            InternalError: If a request failed.
        """
        failures: list[str] = []
        requests = 0

        async def use() -> None:
            nonlocal requests
            while True:
                requests += 1
                try:
                    (await self._user.get(f"/{ROUTE}")).raise_for_status()
                except httpx.HTTPError as error:
                    failures.append(str(error) or type(error).__name__)
                await asyncio.sleep(_PAUSE_SECONDS)

        using = asyncio.create_task(use())
        try:
            yield
        finally:
            using.cancel()
        if failures:
            raise InternalError(
                f"expected the application of somebody else to go on, but {len(failures)} of {requests} requests to it "
                f"failed: {failures[0]}"
            )

    async def _replace(self, change: Callable[[list[Any]], list[Any]]) -> None:
        """Says which applications there shall be besides those of others, as somebody does who looks first."""
        found = await self._applications()
        others = [
            application["deployed_app_config"]
            for name, application in found.items()
            if name != NAME and application["deployed_app_config"] and application["status"] != "DELETING"
        ]
        body = {"proxy_location": "HeadOnly", "http_options": self._options, "applications": change(others)}
        (await self._serve.put("/api/serve/applications/", json=body)).raise_for_status()

    async def _until(self, condition: Callable[[dict[str, Any]], bool]) -> None:
        found: dict[str, Any] = {}
        try:
            async with asyncio.timeout(_DEPLOY_SECONDS):
                while True:
                    # Ray says that there is nothing at all while Serve's controller restarts.
                    found = await self._applications()
                    if condition(found):
                        return
                    await asyncio.sleep(_PAUSE_SECONDS)
        except TimeoutError:
            state = found.get(NAME, {})
            raise UnavailableError(
                f"expected the application of somebody else to come or go within {_DEPLOY_SECONDS:g} s, but it is "
                f"{state.get('status', 'away')}: {state.get('message', '')}"
            ) from None

    async def _applications(self) -> dict[str, Any]:
        response = await self._serve.get("/api/serve/applications/")
        response.raise_for_status()
        applications: dict[str, Any] = response.json()["applications"]
        return applications
