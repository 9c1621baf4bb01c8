"""A replica's side of one attachment: dial a gateway, announce, answer batches, leave."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import NamedTuple

import grpc

from services.policy.distributions import ACTION_DISTRIBUTION_INPUTS
from services.policy.load import LoadMeter
from services.policy.randomness import Draw
from services.policy.runtime import GREEDY, LOG_PROBABILITY, VALUE, Choice, Tensors
from steersman import tensors
from steersman.errors import DeadlineExceededError, InternalError, SteersmanError, status_number
from steersman.v1 import replica_pb2, replica_pb2_grpc

_log = logging.getLogger(__name__)

_SHORTEST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0

Compute = Callable[[int, Tensors, Choice], tuple[Tensors, int]]
"""Computes a batch of a version: the outputs, and the microseconds that it took."""

_SLOW_MICROSECONDS = 1000
"""Batches that take longer are computed in a thread; for others, changing threads would cost more than it gives."""

_Stream = grpc.aio.StreamStreamCall[replica_pb2.AttachRequest, replica_pb2.AttachResponse]


class _Received(NamedTuple):
    """A batch, and the clock's time when it came."""

    batch: replica_pb2.Batch
    time: float


class GatewayAttachment:
    """One gateway that a replica works for.

    Args:
        address: The gateway's internal address.
        max_message_bytes: The largest message, both ways.
        announcement: Says what the replica can do now.
        compute: Computes a batch.
        meter: Measures the load.
    """

    def __init__(
        self,
        address: str,
        max_message_bytes: int,
        announcement: Callable[[], replica_pb2.Announce],
        compute: Compute,
        meter: LoadMeter,
    ) -> None:
        self._address = address
        self._max_message_bytes = max_message_bytes
        self._announcement = announcement
        self._compute = compute
        self._meter = meter
        self._stream: _Stream | None = None
        # gRPC takes one message of a stream at a time; an announcement may meet a result.
        self._writing = asyncio.Lock()
        self._leaving = False
        self._last_microseconds = 0
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
                except (grpc.RpcError, asyncio.InvalidStateError) as error:
                    # The latter is what gRPC raises for a result of a stream that ended while it was computed.
                    _log.debug("gateway %s: %s", self._address, error)
                except Exception:  # noqa: BLE001 - a replica that no longer dials would only seem to be alive
                    _log.exception("attachment to gateway %s failed unexpectedly; dialling again", self._address)
                if not self._leaving:
                    await asyncio.sleep(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - jitter, no secret
                    pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _attach(self, stream: _Stream) -> bool:
        """Serves one stream to its end and tells whether it ever was a working one."""
        worked = False
        awaited: asyncio.Task[_Received | None] | None = None
        await stream.write(replica_pb2.AttachRequest(announce=self._announcement()))
        self._stream = stream
        try:
            while (received := await (awaited or _next_batch(stream))) is not None:
                worked = True
                batch = received.batch
                began = self._meter.begin(self._address, batch.queue_depth, batch.queue_delay_microseconds / 1e6)
                computed = 0
                try:
                    if self._last_microseconds < _SLOW_MICROSECONDS:
                        awaited = None
                        result = self._answer(received)
                    else:
                        # While a slow model computes in a thread, the next batch is awaited, so that it is known how
                        # long it waits; and announcements and other gateways are not held up.
                        awaited = asyncio.create_task(_next_batch(stream))
                        result = await asyncio.to_thread(self._answer, received)
                    self._last_microseconds = result.answer.compute_microseconds
                    if result.HasField("answer"):
                        computed = _size(batch)
                    async with self._writing:
                        await stream.write(replica_pb2.AttachRequest(result=result))
                finally:
                    self._meter.end(self._address, began, computed)
        finally:
            self._stream = None
            stream.cancel()
            if awaited is not None:
                await asyncio.gather(awaited, return_exceptions=True)
        return worked

    def _answer(self, received: _Received) -> replica_pb2.BatchResult:
        batch = received.batch
        result = replica_pb2.BatchResult(id=batch.id)
        if batch.timeout_microseconds and time.monotonic() - received.time > batch.timeout_microseconds / 1e6:
            result.error.code = status_number(DeadlineExceededError(""))
            result.error.message = "the deadline passed while the batch waited in the replica"
            return result
        try:
            inputs = {name: tensors.decode(tensor) for name, tensor in batch.inputs.items()}
            outputs, microseconds = self._compute(batch.version, inputs, _choice(batch))
        except SteersmanError as error:
            result.error.code, result.error.message = status_number(error), str(error)
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base but this
            _log.warning("batch %d of version %d failed: %s", batch.id, batch.version, error)
            result.error.code, result.error.message = status_number(InternalError("")), f"the model failed: {error}"
        else:
            answer = result.answer
            answer.compute_microseconds = microseconds
            for name, array in outputs.items():
                tensors.encode_into(array, answer.outputs[name])
        return result


async def _next_batch(stream: _Stream) -> _Received | None:
    """Reads the next batch; None when the gateway has ended the stream."""
    message = await stream.read()
    return _Received(message.batch, time.monotonic()) if isinstance(message, replica_pb2.AttachResponse) else None


def _size(batch: replica_pb2.Batch) -> int:
    """Counts the observations of a batch."""
    return next((tensor.shape[0] for tensor in batch.inputs.values()), 0)


def _choice(batch: replica_pb2.Batch) -> Choice:
    """Reads how the actions of a batch are chosen."""
    if not batch.HasField("options"):
        return GREEDY
    options = batch.options
    wanted = {
        LOG_PROBABILITY: options.log_probability,
        VALUE: options.value,
        ACTION_DISTRIBUTION_INPUTS: options.action_distribution_inputs,
    }
    draws = [Draw(rows.count, rows.seed, rows.first) for rows in batch.seeds] if options.sample else None
    return Choice(draws, [name for name, is_wanted in wanted.items() if is_wanted])
