"""What a servicer knows of its call: `grpc.aio.ServicerContext`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, Protocol, cast

import grpc

from services.common.rpc.call import Call
from services.common.rpc.compression import Encoding
from services.common.rpc.states import CallState
from services.common.rpc.wire import Metadata, Status, encode_metadata

_log = logging.getLogger(__name__)


class Flow(Protocol):
    """What a context asks of who runs its method: to wait for the client."""

    async def read(self) -> object:
        """Waits for the next request; `grpc.aio.EOF` after the last."""

    async def until_room(self) -> None:
        """Waits until the client has taken most of what was written."""


class Context(grpc.aio.ServicerContext[Any, Any]):
    """The context of one call.

    Args:
        call: The call.
        serializer: Makes a message of an answer; None if answers are messages.
        flow: Waits for the client.

    Attributes:
        status: What `set_code` was told; OK at first.
    """

    def __init__(self, call: Call, serializer: Callable[[Any], bytes] | None, flow: Flow) -> None:
        self._call = call
        self._serializer = serializer
        self._flow = flow
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing: Metadata = ()
        self._compressed = True
        self._callbacks: list[Callable[[Any], None]] = []
        self.status = Status.OK

    async def read(self) -> Any:  # noqa: ANN401 - as grpc.aio has it
        """Waits for a message; `grpc.aio.EOF` after the last."""
        self._require_running()
        return await self._flow.read()

    async def write(self, message: Any) -> None:  # noqa: ANN401
        """Sends a message; waits while the client does not take what was sent before."""
        self._require_running()
        self._send(message)
        if self._call.full:
            await self._flow.until_room()

    async def send_initial_metadata(self, initial_metadata: Any) -> None:  # noqa: ANN401
        """Sends initial metadata."""
        self._require_running()
        if self._call.state is not CallState.OPEN:
            raise grpc.aio.UsageError("expected initial metadata before anything else, got them after it")
        self._call.start(tuple(initial_metadata))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:  # noqa: ANN401
        """Ends the call with an error, and the method with an exception."""
        if self._call.cancelled:
            raise grpc.aio.AbortError("Locally aborted.")
        self._require_running()
        status = _status(code)
        self.set_code(code)
        self._details = details or self._details
        self.set_trailing_metadata(trailing_metadata or self._trailing)
        self._call.fail(Status.UNKNOWN if status is Status.OK else status, self._details, self._trailing)
        raise grpc.aio.AbortError("Locally aborted.")

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """Does the same."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:  # noqa: ANN401
        """Sets what is sent after the answer."""
        encode_metadata(trailing_metadata)
        self._trailing = tuple(trailing_metadata)

    def invocation_metadata(self) -> Any:  # noqa: ANN401
        """Gives the client's metadata."""
        return self._call.metadata()

    def set_code(self, code: grpc.StatusCode) -> None:
        """Sets the status with which the call will end."""
        self.status = _status(code)
        self._code = code

    def set_details(self, details: str) -> None:
        """Sets the message of that status."""
        self._details = details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Compresses answers, if the client takes that; before the first of them."""
        if self._call.state is not CallState.OPEN:
            raise RuntimeError("expected compression to be set before initial metadata are sent, got it after that")
        name = compression.name.removesuffix("Compression").lower().replace("no", "identity")
        accepted = dict(self._call.fields).get(b"grpc-accept-encoding", b"").decode("latin-1")
        if name in [part.strip() for part in accepted.split(",")]:
            self._call.encoding = cast("Encoding", name)

    def disable_next_message_compression(self) -> None:
        """Sends the next message as it is."""
        self._compressed = False

    def peer(self) -> str:
        """Says where the call comes from, such as `ipv4:127.0.0.1:5000`."""
        return self._call.connection.peer.name

    def peer_identities(self) -> Iterable[bytes] | None:
        """Gives the names in the client's certificate."""
        key = self.peer_identity_key()
        return None if key is None else self.auth_context()[key]

    def peer_identity_key(self) -> str | None:
        """Says which of `auth_context` names the client; None without a certificate."""
        return self._call.connection.peer.identity_key

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Gives what TLS knows of the client, by gRPC's own keys; empty without TLS."""
        return self._call.connection.peer.auth_context

    def time_remaining(self) -> float | None:  # type: ignore[override] # None without a deadline, as grpc.aio does it
        """Gives the seconds until the deadline."""
        return self._call.time_remaining()

    def trailing_metadata(self) -> Any:  # noqa: ANN401
        """Gives what was set."""
        return self._trailing

    def code(self) -> Any:  # noqa: ANN401
        """Gives what was set; None if nothing was."""
        return self._code

    def details(self) -> str:
        """Gives what was set."""
        return self._details

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Has a function called with this context once the method has ended."""
        self._callbacks.append(callback)

    def cancelled(self) -> bool:
        """Tells whether the client has gone, the deadline passed or the server stopped."""
        return self._call.cancelled

    def done(self) -> bool:
        """Tells whether the call has ended."""
        return self._call.state > CallState.ANSWERING

    def finish(self, *answer: object) -> None:
        """Ends the call as the method has ended, with its answer if it has one."""
        if self._call.state > CallState.ANSWERING:
            return
        if self.status is Status.OK:
            for message in answer:
                self._send(message)
            self._call.finish(None, self._trailing)
        else:
            self._call.fail(self.status, self._details, self._trailing)

    def run_done_callbacks(self) -> None:
        """Calls what `add_done_callback` was given."""
        for callback in self._callbacks:
            try:
                callback(self)
            except Exception:  # noqa: BLE001 - a handler's fault ends its call and nothing else
                _log.exception("a done callback of %s failed", self._call.path.decode(errors="replace"))

    def _send(self, message: object) -> None:
        serializer = self._serializer
        data = cast("bytes", message) if serializer is None else serializer(message)
        self._call.send(data, compressed=self._compressed)
        self._compressed = True

    def _require_running(self) -> None:
        if self._call.cancelled:
            raise grpc.aio.InternalError("the client has gone, or its deadline has passed")
        if self._call.state is CallState.DONE:
            raise grpc.aio.UsageError("RPC already finished.")


def _status(code: grpc.StatusCode | int) -> Status:
    return Status(code if isinstance(code, int) else code.value[0])
