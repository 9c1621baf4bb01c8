"""ReplicaService: where replicas attach, take batches and bring back results."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import grpc

from services.common.errors import answers_errors
from services.gateway.attachment import Attachment
from services.gateway.batch import Batch
from services.gateway.catalogue import Catalogue
from services.gateway.dispatcher import Dispatcher
from services.gateway.waiting_room import WaitingRoom
from steersman.errors import InvalidArgumentError, UnavailableError, from_status
from steersman.v1 import replica_pb2, replica_pb2_grpc

_log = logging.getLogger(__name__)

_Context = grpc.aio.ServicerContext[Any, Any]


class ReplicaService(replica_pb2_grpc.ReplicaServiceServicer):
    """Serves `steersman.v1.ReplicaService`; the proto describes the order of messages.

    Args:
        catalogue: The policies.
        waiting_room: Where requests wait for the first replica of a policy.
        batch_timeout: Seconds after which a replica that has not answered a batch is taken for lost.
    """

    def __init__(self, catalogue: Catalogue, waiting_room: WaitingRoom, batch_timeout: float) -> None:
        self._catalogue = catalogue
        self._waiting_room = waiting_room
        self._batch_timeout = batch_timeout

    @answers_errors
    async def Attach(self, request_iterator: object, context: _Context) -> None:  # type: ignore[override] # grpc.aio also takes handlers that read and write by themselves
        """Keeps a replica attached for as long as the stream lives."""
        first = await context.read()
        if first is grpc.aio.EOF or not first.HasField("announce"):
            raise InvalidArgumentError("expected an Announce as the first message")
        outbox: asyncio.Queue[replica_pb2.AttachResponse] = asyncio.Queue()
        attachment = Attachment(first.announce, outbox.put_nowait)
        dispatcher = self._catalogue.attach(attachment)
        self._waiting_room.wake(attachment.policy)
        _log.info("replica %s of %s attached: %s", attachment.replica_id, attachment.policy, list(attachment.versions))
        writing = asyncio.create_task(_write(context, outbox))
        reading = asyncio.create_task(self._read(context, attachment, dispatcher))
        try:
            while not reading.done():
                # A replica that hangs keeps its stream open, so only the clock can tell.
                await asyncio.wait([reading], timeout=self._batch_timeout / 4)
                if not reading.done() and attachment.oldest_given < time.monotonic() - self._batch_timeout:
                    raise UnavailableError(f"a batch was not answered within {self._batch_timeout:g} s")
            await reading
        finally:
            reading.cancel()
            writing.cancel()
            requeued = attachment.in_flight
            dispatcher.detach(attachment)
            how = "left" if attachment.leaving and not requeued else "was lost"
            _log.info(
                "replica %s of %s %s, %d batches requeued", attachment.replica_id, attachment.policy, how, requeued
            )

    async def _read(self, context: _Context, attachment: Attachment, dispatcher: Dispatcher) -> None:
        """Takes in what the replica sends, until it hangs up, or has left and answered everything."""
        while not (attachment.leaving and not attachment.in_flight):
            message = await context.read()
            if message is grpc.aio.EOF:
                return
            _take(message, attachment, dispatcher)
            if message.HasField("announce"):
                self._waiting_room.wake(attachment.policy)


async def _write(context: _Context, outbox: asyncio.Queue[replica_pb2.AttachResponse]) -> None:
    """Sends what the dispatcher gave the replica; gRPC takes one message of a stream at a time."""
    while True:
        await context.write(await outbox.get())


def _take(message: replica_pb2.AttachRequest, attachment: Attachment, dispatcher: Dispatcher) -> None:
    """Takes in one message of a replica.

    Raises:
        InvalidArgumentError: If the replica does not keep to the protocol; the stream ends with that.
    """
    kind = message.WhichOneof("message")
    if kind == "result":
        result = message.result

        def outcome(batch: Batch) -> None:
            if result.HasField("answer"):
                batch.answer(result.answer)
            else:
                raise from_status(result.error.code, result.error.message)

        dispatcher.answer(attachment, result.id, outcome)
    elif kind == "announce":
        attachment.announce(message.announce)
        _log.info("replica %s of %s announced: %s", attachment.replica_id, attachment.policy, list(attachment.versions))
        dispatcher.replica_changed()
    elif kind == "leave":
        attachment.leaving = True
        dispatcher.replica_changed()
    else:
        raise InvalidArgumentError("expected an Announce, a BatchResult or a Leave, got an empty message")
