"""A replica's side of one attachment: dial a gateway, announce, answer batches, leave."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

import grpc

from services.policy.runtime import Tensors
from steersman import tensors
from steersman.errors import InternalError, SteersmanError, status_number
from steersman.v1 import replica_pb2, replica_pb2_grpc

_log = logging.getLogger(__name__)

_SHORTEST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0

Compute = Callable[[int, Tensors], tuple[Tensors, int]]
"""Computes a batch of a version: the actions, and the microseconds that it took."""

_Stream = grpc.aio.StreamStreamCall[replica_pb2.AttachRequest, replica_pb2.AttachResponse]


class GatewayAttachment:
    """One gateway that a replica works for.

    Args:
        address: The gateway's internal address.
        max_message_bytes: The largest message, both ways.
        announcement: Says what the replica can do now.
        compute: Computes a batch.
    """

    def __init__(
        self,
        address: str,
        max_message_bytes: int,
        announcement: Callable[[], replica_pb2.Announce],
        compute: Compute,
    ) -> None:
        self._address = address
        self._max_message_bytes = max_message_bytes
        self._announcement = announcement
        self._compute = compute
        self._stream: _Stream | None = None
        # gRPC takes one message of a stream at a time; an announcement may meet a result.
        self._writing = asyncio.Lock()
        self._leaving = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Dials the gateway, again and again until `leave`."""
        self._task = asyncio.create_task(self._keep_attached())

    async def announce(self) -> None:
        """Tells the gateway, if it is attached, what the replica can do now."""
        if self._stream is not None:
            await self._tell(replica_pb2.AttachRequest(announce=self._announcement()))

    async def leave(self) -> None:
        """Takes no more batches, finishes those it holds and detaches."""
        self._leaving = True
        if self._task is None:
            return
        if self._stream is None:
            self._task.cancel()
        else:
            await self._tell(replica_pb2.AttachRequest(leave=replica_pb2.Leave()))
        await asyncio.gather(self._task, return_exceptions=True)

    async def _tell(self, message: replica_pb2.AttachRequest) -> None:
        """Writes a message; a stream that breaks meanwhile is noticed, and dialled again, by its reader."""
        stream = self._stream
        if stream is None:
            return
        try:
            async with self._writing:
                await stream.write(message)
        except (grpc.RpcError, asyncio.InvalidStateError) as error:
            _log.debug("could not write to gateway %s: %s", self._address, error)

    async def _keep_attached(self) -> None:
        options = [
            ("grpc.max_receive_message_length", self._max_message_bytes),
            ("grpc.max_send_message_length", self._max_message_bytes),
            ("grpc.keepalive_time_ms", 10_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.initial_reconnect_backoff_ms", int(_SHORTEST_PAUSE_SECONDS * 1000)),
            ("grpc.max_reconnect_backoff_ms", int(_LONGEST_PAUSE_SECONDS * 1000)),
        ]
        pause = _SHORTEST_PAUSE_SECONDS
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            stub = replica_pb2_grpc.ReplicaServiceStub(channel)
            while not self._leaving:
                try:
                    if await self._attach(stub.Attach()):
                        pause = _SHORTEST_PAUSE_SECONDS
                except grpc.RpcError as error:
                    _log.debug("gateway %s: %s", self._address, error)
                if not self._leaving:
                    await asyncio.sleep(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - jitter, no secret
                    pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _attach(self, stream: _Stream) -> bool:
        """Serves one stream to its end and tells whether it ever was a working one."""
        worked = False
        await stream.write(replica_pb2.AttachRequest(announce=self._announcement()))
        self._stream = stream
        try:
            while isinstance(message := await stream.read(), replica_pb2.AttachResponse):
                worked = True
                result = self._answer(message.batch)
                async with self._writing:
                    await stream.write(replica_pb2.AttachRequest(result=result))
        finally:
            self._stream = None
            stream.cancel()
        return worked

    def _answer(self, batch: replica_pb2.Batch) -> replica_pb2.BatchResult:
        result = replica_pb2.BatchResult(id=batch.id)
        try:
            observation = {name: tensors.decode(tensor) for name, tensor in batch.observation.items()}
            action, microseconds = self._compute(batch.version, observation)
        except SteersmanError as error:
            result.error.code, result.error.message = status_number(error), str(error)
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base but this
            _log.warning("batch %d of version %d failed: %s", batch.id, batch.version, error)
            result.error.code, result.error.message = status_number(InternalError("")), f"the model failed: {error}"
        else:
            result.answer.compute_microseconds = microseconds
            for name, array in action.items():
                result.answer.action[name].CopyFrom(tensors.encode(array))
        return result
