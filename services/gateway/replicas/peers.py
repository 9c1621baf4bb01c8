"""The other processes of the gateway, and its peers: what they have counted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from google.protobuf.message import DecodeError

from services.common import sockets
from services.common.frames import FrameProtocol
from steersman.errors import InvalidArgumentError
from steersman.v1 import activity_pb2, replica_pb2

_SECONDS = 0.5
"""How long they may take; who takes longer is left out this time."""


class Peers:
    """Asks other gateway processes, where replicas find them.

    Args:
        addresses: Their internal addresses.
        max_message_bytes: The largest message that they may send.
    """

    def __init__(self, addresses: Sequence[str], max_message_bytes: int) -> None:
        self._addresses = addresses
        self._max_message_bytes = max_message_bytes

    async def counts(self) -> list[activity_pb2.GatewayCounts]:
        """Gives what each of them has counted, as far as they answer."""
        answers = await asyncio.gather(*(self._ask(address) for address in self._addresses))
        return [answer for answer in answers if answer is not None]

    async def _ask(self, address: str) -> activity_pb2.GatewayCounts | None:
        with contextlib.suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(_SECONDS):
                question = await sockets.connect(address, lambda: _Question(self._max_message_bytes))
                try:
                    return await question.answer
                finally:
                    question.abort()
        return None


class _Question(FrameProtocol):
    """The connection to one of them: a peek, and its answer."""

    def __init__(self, max_message_bytes: int) -> None:
        super().__init__(max_message_bytes)
        self.answer: asyncio.Future[activity_pb2.GatewayCounts] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks."""
        super().connection_made(transport)
        self.send(replica_pb2.AttachRequest(peek=replica_pb2.Peek()).SerializeToString())

    def message_received(self, message: bytes) -> None:
        """Takes the answer.

        Raises:
            InvalidArgumentError: If it is none.
        """
        try:
            response = replica_pb2.AttachResponse.FromString(message)
        except DecodeError as error:
            raise InvalidArgumentError(f"expected an AttachResponse, got other bytes: {error}") from error
        if not self.answer.done():
            self.answer.set_result(response.counts)

    def closed(self) -> None:
        """Gives up waiting."""
        if not self.answer.done():
            self.answer.set_exception(ConnectionResetError("it hung up"))
