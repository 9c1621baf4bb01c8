"""What versions take and give that no replica has loaded yet: read from the manifests of their bundles."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping

from google.protobuf import json_format

from services.common.bundle_files import MANIFEST, MAX_MANIFEST_BYTES
from services.common.files import read_bounded
from services.common.local_path import local_path
from services.gateway.control.registry import Registry
from steersman.errors import InvalidArgumentError, SteersmanError
from steersman.v1 import common_pb2

_log = logging.getLogger(__name__)

_SECONDS = 5.0
"""How long reading one manifest may take: a change of a route is not held up by a registry that is away."""


class BundleSpecs:
    """Reads manifests, without checking more of a bundle than that: replicas do so when they load it.

    Args:
        registry: The model registry, which hands out files of bundles.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def read(self, policy: str, uris: Mapping[int, str]) -> dict[int, common_pb2.PolicySpec]:
        """Reads what versions take and give.

        Args:
            policy: The policy.
            uris: Where the bundles of the versions lie.

        Returns:
            The specs of those whose manifest could be read. It cannot where the bundle lies in a folder of another
            machine, or in a store that neither this process nor MLflow can read, or while MLflow is away.
        """
        found = await asyncio.gather(*(self._read(policy, version, uri) for version, uri in uris.items()))
        return {version: spec for version, spec in zip(uris, found, strict=True) if spec is not None}

    async def _read(self, policy: str, version: int, uri: str) -> common_pb2.PolicySpec | None:
        try:
            async with asyncio.timeout(_SECONDS):
                return read_spec(await self._manifest(policy, version, uri), uri)
        except TimeoutError:
            _log.info("the manifest of %s:%d at %s cannot be read within %g s", policy, version, uri, _SECONDS)
        except SteersmanError as error:
            _log.info("the manifest of %s:%d cannot be read: %s", policy, version, error)
        return None

    async def _manifest(self, policy: str, version: int, uri: str) -> bytes:
        folder = local_path(uri)
        if folder is not None and folder.is_absolute():
            return await asyncio.to_thread(read_bounded, folder / MANIFEST, MAX_MANIFEST_BYTES, inside=folder)
        return await self._registry.read_file(policy, version, uri, MANIFEST)


def read_spec(manifest: bytes, uri: str) -> common_pb2.PolicySpec:
    """Reads what a version takes and gives from its bundle's manifest.

    Args:
        manifest: The manifest's JSON.
        uri: Where it was found, for the message.

    Raises:
        InvalidArgumentError: If it is no manifest.
    """
    spec = common_pb2.PolicySpec()
    if len(manifest) > MAX_MANIFEST_BYTES:
        raise InvalidArgumentError(f"expected a manifest of at most {MAX_MANIFEST_BYTES} bytes at {uri}")
    try:
        json_format.ParseDict(json.loads(manifest)["spec"], spec)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, json_format.ParseError) as error:
        raise InvalidArgumentError(f"expected a bundle's manifest at {uri}, got something else: {error!r}") from error
    return spec
