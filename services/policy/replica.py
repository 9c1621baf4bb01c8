"""The replica core: holds versions, attaches to gateways, computes batches. It knows nothing of Ray."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType

from google.protobuf import json_format, struct_pb2

from services.policy.attachment import GatewayAttachment
from services.policy.load import LoadMeter
from services.policy.runtime import GREEDY, Choice, PolicyRuntime, Tensors
from steersman.errors import InternalError, SteersmanError, UnavailableError
from steersman.v1 import replica_pb2

_log = logging.getLogger(__name__)

MAX_BATCHES_IN_FLIGHT = 2
"""One that is computed and one on the wire."""


class Replica:
    """A replica of a policy.

    Args:
        policy: The policy's name.
        replica_id: The replica's own name.
        gateways: Internal addresses of all gateways.
        max_batch_size: The most observations that it takes in one batch.
        max_message_bytes: The largest message on the way to and from a gateway.
        max_queue_delay_microseconds: How long an observation may wait for company while its batch is not full.

    Attributes:
        meter: Measures what it has to do.

    Example:
        >>> replica = Replica("cartpole", "replica-1", ["127.0.0.1:50061"], 256, 64 * 1024 * 1024)
        >>> await replica.load({3: lambda: PolicyRuntime(bundle)})
        >>> replica.start()
        >>> await replica.leave()
    """

    def __init__(
        self,
        policy: str,
        replica_id: str,
        gateways: Sequence[str],
        max_batch_size: int,
        max_message_bytes: int,
        max_queue_delay_microseconds: int = 0,
    ) -> None:
        self._max_queue_delay_microseconds = max_queue_delay_microseconds
        self._policy = policy
        self._replica_id = replica_id
        self._max_batch_size = max_batch_size
        self._max_message_bytes = max_message_bytes
        self._runtimes: Mapping[int, PolicyRuntime] = {}
        self._failed: Mapping[int, str] = {}
        self.meter = LoadMeter(max_batch_size)
        self._attachments = [
            GatewayAttachment(address, max_message_bytes, self._announce, self.compute, self.meter)
            for address in gateways
        ]

    @property
    def versions(self) -> Mapping[int, PolicyRuntime]:
        """The versions that are loaded, by number."""
        return MappingProxyType(dict(self._runtimes))

    async def load(
        self, loaders: Mapping[int, Callable[[], PolicyRuntime]], replaced: Collection[int] = frozenset()
    ) -> None:
        """Holds these versions from now on; what is loaded already stays, what is not listed goes.

        New versions are loaded and warmed in a thread while the old ones answer, and announced only when all of them
        are ready. Of versions that fail to load the gateways are told why, and then nothing goes that was there before.

        Args:
            loaders: For each version what loads it.
            replaced: Those of them that are to be loaded anew, since they are not the same any more.

        Raises:
            SteersmanError: Why the first of those that failed could not be loaded.
        """
        runtimes: dict[int, PolicyRuntime] = {}
        failed: dict[int, SteersmanError] = {}
        for version, loader in loaders.items():
            held = None if version in replaced else self._runtimes.get(version)
            try:
                runtimes[version] = held if held is not None else await asyncio.to_thread(loader)
            except SteersmanError as error:
                failed[version] = error
            except Exception as error:  # noqa: BLE001 - whatever it is, the other versions go on
                failed[version] = InternalError(f"version {version} cannot be loaded: {type(error).__name__}: {error}")
        self._runtimes = {**self._runtimes, **runtimes} if failed else runtimes
        self._failed = {version: str(reason) for version, reason in failed.items()}
        _log.info("%s holds versions %s", self._replica_id, sorted(self._runtimes))
        self._announce_to_gateways()
        if failed:
            raise next(iter(failed.values()))

    def start(self) -> None:
        """Starts to dial the gateways, and keeps dialling those that cannot be reached."""
        for attachment in self._attachments:
            attachment.start()

    async def leave(self) -> None:
        """Says goodbye to every gateway, finishes what it holds and detaches."""
        await asyncio.gather(*(attachment.leave() for attachment in self._attachments))

    def compute(self, version: int, inputs: Tensors, choice: Choice = GREEDY) -> tuple[Tensors, int]:
        """Computes a batch.

        Args:
            version: The version to compute with.
            inputs: Arrays by wire name, each with a leading batch axis.
            choice: How actions are chosen and what is wanted besides them.

        Returns:
            The outputs by wire name, and the microseconds that it took.

        Raises:
            UnavailableError: If the version is not loaded (any more).
        """
        runtime = self._runtimes.get(version)
        if runtime is None:
            raise UnavailableError(f"expected one of versions {sorted(self._runtimes)}, got {version}")
        start = time.perf_counter()
        outputs = runtime.compute(inputs, choice)
        return outputs, int((time.perf_counter() - start) * 1e6)

    def _announce_to_gateways(self) -> None:
        for attachment in self._attachments:
            attachment.announce()

    def _announce(self) -> replica_pb2.Announce:
        return replica_pb2.Announce(
            policy=self._policy,
            replica_id=self._replica_id,
            versions=[
                replica_pb2.LoadedVersion(
                    version=version,
                    spec=runtime.spec,
                    model=runtime.model,
                    provenance=json_format.ParseDict(runtime.provenance, struct_pb2.Struct()),
                    warm_up_observations=runtime.warm_up_observations,
                    warm_up_microseconds=int(runtime.warm_up_seconds * 1e6),
                )
                for version, runtime in sorted(self._runtimes.items())
            ],
            max_batches_in_flight=MAX_BATCHES_IN_FLIGHT,
            max_batch_size=self._max_batch_size,
            max_queue_delay_microseconds=self._max_queue_delay_microseconds,
            max_message_bytes=self._max_message_bytes,
            failed_versions=[
                replica_pb2.FailedVersion(version=version, reason=reason) for version, reason in self._failed.items()
            ],
        )
