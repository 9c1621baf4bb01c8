"""Where replicas attach, take batches and bring back results; replica.proto describes the order of messages."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from google.protobuf.message import DecodeError

from services.common import sockets
from services.common.busy_poll import BusyPoll
from services.common.frames import FrameProtocol
from services.common.supervision import Supervisor
from services.gateway.dispatch.attachment import Attachment
from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.intake.catalogue import Catalogue
from services.gateway.intake.waiting_room import WaitingRoom
from steersman.errors import InvalidArgumentError, from_status
from steersman.v1 import activity_pb2, replica_pb2

_log = logging.getLogger(__name__)

_WATCH_SECONDS = 0.5


class ReplicaService:
    """Listens for replicas. A replica is attached for as long as its connection lives.

    Args:
        catalogue: The policies.
        waiting_room: Where requests wait for the first replica of a policy.
        address: Where it listens; taken at once.
        max_message_bytes: The largest message that a replica may send, and the largest that it is sent if it does not
            say what it takes.
        batch_timeout: Seconds that a replica may take to answer a batch, or to announce itself, until it is taken for
            lost; less for one that has always been much faster, and more for a batch that is so much larger.
        count: Gives what other gateway processes may ask for.
        supervisor: Keeps what happens in the background going.
        busy_poll_microseconds: See `Attachment`.

    Attributes:
        address: Where it listens; with the real port where port 0 was asked for.

    Raises:
        OSError: If the address is in use or not this machine's.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        waiting_room: WaitingRoom,
        address: str,
        max_message_bytes: int,
        batch_timeout: float,
        count: Callable[[], activity_pb2.GatewayCounts],
        supervisor: Supervisor,
        busy_poll_microseconds: int,
    ) -> None:
        self._busy_poll_microseconds = busy_poll_microseconds
        self._supervisor = supervisor
        self._catalogue = catalogue
        self._waiting_room = waiting_room
        self._count = count
        self._max_message_bytes = max_message_bytes
        self._batch_timeout = batch_timeout
        self._socket = sockets.bind(address)
        self.address = sockets.bound_address(self._socket)
        self._connections: set[ReplicaConnection] = set()
        self._server: asyncio.Server | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Starts to listen."""
        self._server = await sockets.listen(self._socket, self._connection)
        self._watching = asyncio.create_task(self._supervisor.repeat("watching replicas", self._watch))
        _log.info("listening for replicas on %s", self.address)

    async def stop(self) -> None:
        """Hangs up on every replica; whatever should still be answered has been by then."""
        if self._watching is not None:
            self._watching.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        self._socket.close()
        sockets.release(self.address)

    def _connection(self) -> ReplicaConnection:
        return ReplicaConnection(
            self._catalogue,
            self._waiting_room,
            self._max_message_bytes,
            self._connections,
            self._count,
            self._busy_poll_microseconds,
        )

    async def _watch(self) -> None:
        """Hangs up on replicas that hang: they keep their connections open, so only the clock can tell."""
        await asyncio.sleep(min(self._batch_timeout / 4, _WATCH_SECONDS))
        now = time.monotonic()
        for connection in list(self._connections):
            if connection.is_overdue(now, self._batch_timeout):
                _log.warning("%s hangs, or is much slower than it was", connection.peer)
                connection.abort()


class ReplicaConnection(FrameProtocol):
    """The connection of one replica; or of another gateway process, which only asks what was counted here.

    Args:
        catalogue: The policies.
        waiting_room: Where requests wait for the first replica of a policy.
        max_message_bytes: The largest message that the replica may send, and the largest that it is sent if it does
            not say what it takes.
        connections: All connections; it keeps itself there for as long as it is open.
        count: Gives what other gateway processes may ask for.
        busy_poll_microseconds: See `Attachment`.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        waiting_room: WaitingRoom,
        max_message_bytes: int,
        connections: set[ReplicaConnection],
        count: Callable[[], activity_pb2.GatewayCounts],
        busy_poll_microseconds: int,
    ) -> None:
        super().__init__(max_message_bytes)
        self._count = count
        self._catalogue = catalogue
        self._waiting_room = waiting_room
        self._connections = connections
        self._busy_poll_microseconds = busy_poll_microseconds
        self._busy_poll = BusyPoll()
        self._opened = time.monotonic()
        self._is_paused = False
        # Both are set by the replica's first announcement.
        self._attachment: Attachment | None = None
        self._dispatcher: Dispatcher | None = None

    def is_overdue(self, now: float, longest: float) -> bool:
        """Tells whether the replica owes an answer, or its announcement, for too long.

        Args:
            now: Seconds of `time.monotonic`.
            longest: Seconds that either may take at most.
        """
        if self._attachment is None:
            return now - self._opened > longest
        return self._attachment.is_overdue(now, longest)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes note of itself."""
        super().connection_made(transport)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Takes note that the replica is alive, and hands on the messages that are complete."""
        if self._attachment is not None:
            self._attachment.heard(time.monotonic())
        self._busy_poll.arrived()
        super().data_received(data)

    def message_received(self, message: bytes) -> None:
        """Takes in one message of the replica.

        Raises:
            InvalidArgumentError: If the replica does not keep to the protocol.
        """
        try:
            request = replica_pb2.AttachRequest.FromString(message)
        except DecodeError as error:
            raise InvalidArgumentError(f"expected an AttachRequest, got other bytes: {error}") from error
        if request.HasField("peek"):
            if self._is_paused:
                raise InvalidArgumentError("expected a peer to read its counts before it asks for them again")
            self.send(replica_pb2.AttachResponse(counts=self._count()).SerializeToString())
        elif self._attachment is None or self._dispatcher is None:
            self._attach(request)
        else:
            self._take(request, self._attachment, self._dispatcher)

    def pause_writing(self) -> None:
        """Gives the replica nothing more until it has read what it was sent."""
        self._is_paused = True
        if self._attachment is not None:
            self._attachment.pause()

    def resume_writing(self) -> None:
        """Gives it batches again."""
        self._is_paused = False
        if self._attachment is not None and self._dispatcher is not None:
            self._attachment.resume()
            self._dispatcher.replica_resumed()

    def closed(self) -> None:
        """Lets the replica go; what it holds goes to another one."""
        self._connections.discard(self)
        if self._attachment is not None and self._dispatcher is not None:
            requeued = self._attachment.in_flight
            self._dispatcher.detach(self._attachment)
            how = "left" if self._attachment.leaving and not requeued else "was lost"
            _log.info("%s %s, %d batches requeued", self.peer, how, requeued)

    def _attach(self, first: replica_pb2.AttachRequest) -> None:
        if not first.HasField("announce"):
            raise InvalidArgumentError("expected an Announce as the first message")
        attachment = Attachment(
            first.announce,
            self._send_batch,
            max_message_bytes=self._max_message_bytes,
            busy_poll_microseconds=self._busy_poll_microseconds,
            expect_answer=self._busy_poll.expect,
        )
        if self._is_paused:
            attachment.pause()
        self.peer = f"replica {attachment.replica_id} of {attachment.policy}"
        self._dispatcher = self._catalogue.attach(attachment)
        self._attachment = attachment
        _log.info("%s attached: %s", self.peer, list(attachment.versions))
        self._wake(attachment.policy)

    def _send_batch(self, message: bytes) -> None:
        """Sends a batch.

        Raises:
            ConnectionResetError: If the replica has gone.
        """
        if self.is_closing:
            raise ConnectionResetError(f"{self.peer} has gone")
        self.send(message)

    def _take(self, message: replica_pb2.AttachRequest, attachment: Attachment, dispatcher: Dispatcher) -> None:
        kind = message.WhichOneof("message")
        if kind == "result":
            result = message.result
            if result.HasField("answer"):
                dispatcher.answered(attachment, result.id, result.answer)
            elif result.HasField("error"):
                dispatcher.failed(attachment, result.id, from_status(result.error.code, result.error.message))
            else:
                raise InvalidArgumentError("expected a BatchResult with an answer or an error, got neither")
        elif kind == "announce":
            attachment.announce(message.announce)
            _log.info("%s announced: %s", self.peer, list(attachment.versions))
            dispatcher.replica_changed()
            self._wake(attachment.policy)
        elif kind == "leave":
            attachment.leave()
            dispatcher.replica_changed()
        else:
            raise InvalidArgumentError("expected an Announce, a BatchResult or a Leave, got an empty message")
        if attachment.leaving and not attachment.in_flight:
            self.close()

    def _wake(self, policy: str) -> None:
        """Lets those who wait for a replica of a policy try again. If that fails, it is no fault of this replica."""
        try:
            self._waiting_room.wake(policy)
        except Exception:  # noqa: BLE001 - whatever it is, it concerns no one else
            _log.exception("those who wait for policy %s could not be woken", policy)
