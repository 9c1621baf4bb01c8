"""ReplicaService: where replicas attach, take batches and bring back results."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc

from services.common.errors import answers_errors
from services.gateway.attachment import Attachment
from services.gateway.batch import Batch
from services.gateway.catalogue import Catalogue
from services.gateway.dispatcher import Dispatcher
from steersman.errors import InvalidArgumentError, from_status
from steersman.v1 import replica_pb2, replica_pb2_grpc

_log = logging.getLogger(__name__)


class ReplicaService(replica_pb2_grpc.ReplicaServiceServicer):
    """Serves `steersman.v1.ReplicaService`; the proto describes the order of messages.

    Args:
        catalogue: The policies.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    @answers_errors
    async def Attach(self, request_iterator: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:  # type: ignore[override]
        """Keeps a replica attached for as long as the stream lives."""
        first = await context.read()
        if first is grpc.aio.EOF or not first.HasField("announce"):
            raise InvalidArgumentError("expected an Announce as the first message")
        outbox: asyncio.Queue[replica_pb2.AttachResponse] = asyncio.Queue()
        attachment = Attachment(first.announce, outbox.put_nowait)
        dispatcher = self._catalogue.attach(attachment)
        _log.info("replica %s of %s attached: %s", attachment.replica_id, attachment.policy, list(attachment.versions))
        writer = asyncio.create_task(_write(context, outbox))
        try:
            while not (attachment.leaving and not attachment.in_flight):
                message = await context.read()
                if message is grpc.aio.EOF:
                    break
                _take(message, attachment, dispatcher)
        finally:
            writer.cancel()
            lost = attachment.in_flight
            dispatcher.detach(attachment)
            how = "left" if attachment.leaving else "was lost"
            _log.info("replica %s of %s %s, %d batches requeued", attachment.replica_id, attachment.policy, how, lost)


async def _write(
    context: grpc.aio.ServicerContext[Any, Any], outbox: asyncio.Queue[replica_pb2.AttachResponse]
) -> None:
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
