"""The Ray Serve deployment: a thin wrapper around the replica core.

Ray Serve places, heals and updates replicas. No request of the data plane passes through it; only plain HTTP does:
`POST /<policy>` with `{"array": [...]}` gives the action, `GET /<policy>` the versions.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from ray import serve
from ray.serve import Application
from starlette.requests import Request
from starlette.responses import JSONResponse

from services.common.logs import configure_logging
from services.policy.replica import Replica
from services.policy.runtime import PolicyRuntime
from services.policy.store import fetch_bundle
from services.policy.trial import try_bundle
from steersman import spaces
from steersman.errors import InvalidArgumentError, SteersmanError, UnavailableError

_log = logging.getLogger(__name__)

_SHORTEST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0

_HTTP = "plain HTTP"
"""What the load calls where these requests come from, instead of a gateway."""


class PolicyReplica:
    """A replica of a policy under Ray Serve.

    Args:
        policy: The policy's name.
        gateways: Internal addresses of all gateways.
        max_batch_size: The most observations in one batch.
        max_message_bytes: The largest message on the way to and from a gateway.
        cache: Folder for downloaded bundles.
        mlflow_url: The tracking server.
        max_queue_delay_microseconds: How long an observation may wait for company while its batch is not full.
    """

    def __init__(
        self,
        policy: str,
        gateways: list[str],
        max_batch_size: int,
        max_message_bytes: int,
        cache: str,
        mlflow_url: str,
        max_queue_delay_microseconds: int,
    ) -> None:
        configure_logging("policy", "INFO")
        self._cache = Path(cache)
        self._mlflow_url = mlflow_url
        replica_id = serve.get_replica_context().replica_id.unique_id
        self._replica = Replica(
            policy, replica_id, gateways, max_batch_size, max_message_bytes, max_queue_delay_microseconds
        )
        self._started = False
        self._default = 0
        self._uris: dict[int, str] = {}
        self._retrying: asyncio.Task[None] | None = None

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Holds the versions that are wanted now; Ray Serve calls this at the start and on each change.

        Args:
            user_config: `{"versions": {"<version>": "<bundle URI>"}, "default": <version>}`; what else it
                has makes Ray Serve call this again.

        Raises:
            SteersmanError: If a bundle is not sound, and there is no version that goes on.
        """
        self._default = user_config["default"]
        uris = {int(version): uri for version, uri in user_config["versions"].items()}
        if self._retrying is not None:
            self._retrying.cancel()
        try:
            await self._hold(uris)
        except UnavailableError:
            # Where bundles come from is away, which is no fault of this replica's.
            self._retrying = asyncio.create_task(self._retry(uris))
        except SteersmanError:
            # Ray Serve replaces replicas that fail here. One that can still answer goes on, and the gateways know why.
            if not self._replica.versions:
                raise
        if not self._started:
            self._started = True
            self._replica.start()

    async def _hold(self, uris: dict[int, str]) -> None:
        """Holds the versions with these bundles, as far as they can be loaded.

        Raises:
            SteersmanError: Why one cannot.
        """
        is_only = len(uris) == 1
        loaders = {version: functools.partial(self._load, version, uri, is_only) for version, uri in uris.items()}
        replaced = {version for version, uri in uris.items() if self._uris.get(version) != uri}
        try:
            await self._replica.load(loaders, replaced)
        except SteersmanError as error:
            _log.error("%s; versions %s go on", error, sorted(self._replica.versions) or "none")
            raise

    async def _retry(self, uris: dict[int, str]) -> None:
        """Tries again and again to hold versions that could not be fetched."""
        pause = _SHORTEST_PAUSE_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            try:
                await self._hold(uris)
            except UnavailableError:
                continue
            except SteersmanError:
                pass  # what is there now is no sound bundle, and will not become one
            except Exception:  # noqa: BLE001 - a replica that no longer tries would only seem to be on its way
                _log.exception("versions %s could not be held, unexpectedly; trying again", sorted(uris))
                continue
            return

    def _load(self, version: int, uri: str, is_only: bool) -> PolicyRuntime:
        bundle = fetch_bundle(uri, self._cache, self._mlflow_url)
        if self._replica.versions or not is_only:
            # There are versions that would be lost with this process.
            try_bundle(bundle, self._cache / "tried")
        runtime = PolicyRuntime(bundle)
        self._uris[version] = uri
        return runtime

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Gives Ray Serve what `services.policy.autoscaling` decides by; Ray Serve asks this every now and then."""
        return dataclasses.asdict(self._replica.meter.report())

    async def __call__(self, request: Request) -> JSONResponse:
        """Answers plain HTTP: `{"array": [...]}`, one observation or a batch, with action and version."""
        if request.method == "GET":
            return JSONResponse({"versions": sorted(self._replica.versions)})
        try:
            return JSONResponse(self._act(await request.body()))
        except InvalidArgumentError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        except SteersmanError as error:
            return JSONResponse({"error": str(error)}, status_code=503)

    def _act(self, body: bytes) -> dict[str, Any]:
        versions = self._replica.versions
        # What should answer may have failed to load; then the one before goes on.
        version = self._default if self._default in versions else max(versions)
        runtime = versions[version]
        if runtime.spec.state_tensors:
            raise InvalidArgumentError(
                f"expected a policy without memory, but version {version} has some, which plain HTTP cannot carry; "
                "ask a gateway"
            )
        try:
            sample = json.loads(body)["array"]
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidArgumentError(
                f'expected JSON like {{"array": [...]}} with {spaces.describe(runtime.spec.observation_space)}, '
                f"got {body[:80]!r}"
            ) from error
        layout = spaces.layout(runtime.spec.observation_space, spaces.OBSERVATION)
        observation = spaces.flatten(sample, layout)
        batched = bool(spaces.batch_axes(observation, layout))
        batch = observation if batched else {name: tensor[np.newaxis] for name, tensor in observation.items()}
        size = next(len(tensor) for tensor in batch.values())
        began = self._replica.meter.begin(_HTTP, queue_depth=0, queue_delay=0.0)
        try:
            actions, _ = self._replica.compute(version, batch)
        finally:
            self._replica.meter.end(_HTTP, began, size)
        if not batched:
            actions = {name: tensor[0] for name, tensor in actions.items()}
        action = spaces.unflatten(actions, spaces.layout(runtime.spec.action_space, spaces.ACTION))
        return {"action": spaces.plain(action), "version": version}

    async def __del__(self) -> None:
        """Leaves; Ray Serve awaits this before it stops the replica."""
        await self._replica.leave()


def build(args: dict[str, Any]) -> Application:
    """Builds the Serve application of one policy, from the `args` of its Serve config.

    Args:
        args: The arguments of `PolicyReplica`.
    """
    return serve.deployment(PolicyReplica, name="policy").bind(**args)
