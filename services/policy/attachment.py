"""A replica's side of one attachment: dial a gateway, announce, answer batches, leave."""

from __future__ import annotations

import asyncio
import functools
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from google.protobuf.message import DecodeError

from services.common import sockets
from services.common.busy_poll import BusyPoll
from services.common.frames import FrameProtocol
from services.policy.load import LoadMeter
from services.policy.randomness import Draw
from services.policy.runtime import GREEDY, Choice, Tensors
from steersman import tensors
from steersman.errors import DeadlineExceededError, InternalError, InvalidArgumentError, SteersmanError, status_number
from steersman.extras import read_extras
from steersman.v1 import replica_pb2

_log = logging.getLogger(__name__)

_SHORTEST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 2.0

Compute = Callable[[int, Tensors, Choice], tuple[Tensors, int]]
"""Computes a batch of a version: the outputs, and the microseconds that it took."""

_SLOW_MICROSECONDS = 1000
"""Batches that take longer are computed in a thread; for others, changing threads would cost more than it gives."""

_LEAVE_SECONDS = 60.0
"""How long a gateway may take to let a replica go that has said that it leaves."""


class _Received(NamedTuple):
    """A batch, and the clock's time when it came."""

    batch: replica_pb2.Batch
    time: float


class GatewayAttachment:
    """One gateway that a replica works for: dials it, again and again, until the replica leaves.

    Args:
        address: The gateway's internal address.
        max_message_bytes: The largest message that the gateway may send.
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
        self._connection: GatewayConnection | None = None
        self._leaving = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Dials the gateway, again and again until `leave`."""
        self._task = asyncio.create_task(self._keep_attached())

    def announce(self) -> None:
        """Tells the gateway, if it is attached, what the replica can do now."""
        if self._connection is not None:
            self._connection.send_request(announce=self._announcement())

    async def leave(self) -> None:
        """Takes no more batches, finishes those it holds and detaches."""
        self._leaving = True
        if self._task is None:
            return
        if self._connection is None:
            self._task.cancel()
        else:
            self._connection.send_request(leave=replica_pb2.Leave())
        _, late = await asyncio.wait([self._task], timeout=_LEAVE_SECONDS)
        if late and self._connection is not None:
            self._connection.abort()

    async def _keep_attached(self) -> None:
        pause = _SHORTEST_PAUSE_SECONDS
        while not self._leaving:
            try:
                if await self._attach():
                    pause = _SHORTEST_PAUSE_SECONDS
            except OSError as error:
                _log.debug("gateway %s: %s", self._address, error)
            except Exception:  # noqa: BLE001 - a replica that no longer dials would only seem to be alive
                _log.exception("attachment to gateway %s failed unexpectedly; dialling again", self._address)
            if not self._leaving:
                await asyncio.sleep(random.uniform(0.5, 1.0) * pause)  # noqa: S311 - jitter, no secret
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    async def _attach(self) -> bool:
        """Works for the gateway until the connection ends, and tells whether it ever was a working one.

        Raises:
            OSError: If nobody answers at the address.
        """
        connection = await sockets.connect(
            self._address,
            lambda: GatewayConnection(self._address, self._max_message_bytes, self._compute, self._meter),
        )
        connection.send_request(announce=self._announcement())
        self._connection = connection
        try:
            await connection.ended.wait()
        finally:
            self._connection = None
            connection.abort()
        return connection.worked


class GatewayConnection(FrameProtocol):
    """One connection to a gateway, from the first batch to the last.

    Args:
        address: The gateway's address, for logs.
        max_message_bytes: The largest message that the gateway may send.
        compute: Computes a batch.
        meter: Measures the load.

    Attributes:
        ended: Set when the connection is gone.
        worked: Whether any batch came over it.
    """

    def __init__(self, address: str, max_message_bytes: int, compute: Compute, meter: LoadMeter) -> None:
        super().__init__(max_message_bytes)
        self.peer = f"gateway {address}"
        self._address = address
        self._meter = meter
        self.ended = asyncio.Event()
        self.worked = False
        self._compute = compute
        # No more than the replica announced that it takes.
        self._batches: deque[_Received] = deque()
        self._computing: asyncio.Future[replica_pb2.BatchResult] | None = None
        self._last_microseconds = 0
        self._busy_poll = BusyPoll()

    def send_request(
        self,
        *,
        announce: replica_pb2.Announce | None = None,
        result: replica_pb2.BatchResult | None = None,
        leave: replica_pb2.Leave | None = None,
    ) -> None:
        """Sends one message."""
        self.send(replica_pb2.AttachRequest(announce=announce, result=result, leave=leave).SerializeToString())

    def message_received(self, message: bytes) -> None:
        """Takes a batch.

        Raises:
            InvalidArgumentError: If it is none.
        """
        try:
            response = replica_pb2.AttachResponse.FromString(message)
        except DecodeError as error:
            raise InvalidArgumentError(f"expected an AttachResponse, got other bytes: {error}") from error
        self.worked = True
        self._busy_poll.arrived()
        self._batches.append(_Received(response.batch, time.monotonic()))
        self._work()

    def closed(self) -> None:
        """Forgets what nobody waits for any more."""
        self._batches.clear()
        self.ended.set()

    def _work(self) -> None:
        """Computes what has come, one batch after the other.

        Fast models are computed right here. While a slow one computes in a thread, the next batch comes in, so that it
        is known how long it waits; and announcements and other gateways are not held up.
        """
        while self._batches and self._computing is None:
            received = self._batches.popleft()
            batch = received.batch
            began = self._meter.begin(self._address, batch.queue_depth, batch.queue_delay_microseconds / 1e6)
            if self._last_microseconds < _SLOW_MICROSECONDS:
                self._send_result(batch, began, self._answer(received))
            else:
                loop = asyncio.get_running_loop()
                self._computing = loop.run_in_executor(None, self._answer, received)
                self._computing.add_done_callback(functools.partial(self._computed, batch, began))

    def _computed(
        self, batch: replica_pb2.Batch, began: float, computing: asyncio.Future[replica_pb2.BatchResult]
    ) -> None:
        self._computing = None
        if error := computing.exception():
            # Hanging up sends the batch elsewhere; without an answer the gateway would wait for its batch timeout.
            _log.error("hanging up on %s, a batch failed unexpectedly", self.peer, exc_info=error)
            self._meter.end(self._address, began, 0)
            self.abort()
            return
        self._send_result(batch, began, computing.result())
        self._work()

    def _send_result(self, batch: replica_pb2.Batch, began: float, result: replica_pb2.BatchResult) -> None:
        self._last_microseconds = result.answer.compute_microseconds
        self._meter.end(self._address, began, _size(batch) if result.HasField("answer") else 0)
        if not self.ended.is_set():
            self.send_request(result=result)
            self._busy_poll.expect(batch.busy_poll_microseconds / 1e6)

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
            result.answer.compute_microseconds = microseconds
            for name, array in outputs.items():
                tensors.encode_into(array, result.answer.outputs[name])
        except SteersmanError as error:
            # Setting the one clears the other.
            result.error.code, result.error.message = status_number(error), str(error)
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base but this
            _log.warning("batch %d of version %d failed: %s", batch.id, batch.version, error)
            result.error.code, result.error.message = status_number(InternalError("")), f"the model failed: {error}"
        return result


def _size(batch: replica_pb2.Batch) -> int:
    """Counts the observations of a batch."""
    return next((tensor.shape[0] for tensor in batch.inputs.values()), 0)


def _choice(batch: replica_pb2.Batch) -> Choice:
    """Reads how the actions of a batch are chosen."""
    if not batch.HasField("options"):
        return GREEDY
    options = batch.options
    draws = [Draw(rows.count, rows.seed, rows.first) for rows in batch.seeds] if options.sample else None
    return Choice(draws, read_extras(options))
