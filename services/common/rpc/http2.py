"""HTTP/2 without a socket: bytes in, events out, bytes to send out. The only module that knows which library does it.

It is `ngh2` (libnghttp2): framing, HPACK, flow control, and limits on what a hostile peer may send.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ParamSpec

from ngh2 import (
    Configuration,
    Connection,
    ConnectionClosed,
    DataReceived,
    GoAwayReceived,
    NGH2Error,
    PingAcknowledged,
    PingReceived,
    RequestReceived,
    ResponseReceived,
    Role,
    SettingsReceived,
    StreamClosed,
    TrailersReceived,
)

from services.common.rpc.errors import ConnectionLostError
from services.common.rpc.events import ErrorCode, Events
from services.common.rpc.limits import Limits
from services.common.rpc.wire import Field

_Arguments = ParamSpec("_Arguments")

_ENABLE_PUSH, _MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE, _MAX_HEADER_LIST_SIZE = 2, 3, 4, 5, 6
OUTPUT_CHUNK_BYTES = 256 * 1024
"""What large bodies are put out in, so that a transport that is full stops them."""


class Http2:
    """One end of a connection.

    Calls that name a stream do nothing if the peer has reset it meanwhile.

    Args:
        events: Told what happens, during `receive` and `dispatch`.
        limits: What the peer may send.
        client: Whether this end makes the requests.
    """

    def __init__(self, events: Events, limits: Limits, *, client: bool = False) -> None:
        self._events = events
        # Fields beyond our own limit still reach us, up to a bound, so that only the call fails and not the connection.
        # A single value of more than 64 KiB is an error of the connection all the same, to libnghttp2.
        configuration = Configuration(
            auto_window_update=False,
            stream_reset_rate_limit=limits.resets,
            max_inbound_header_list_size=max(256 * 1024, 4 * limits.max_metadata_bytes),
            max_send_header_block_length=1024 * 1024,
        )
        self._engine = engine = Connection(Role.CLIENT if client else Role.SERVER, configuration)
        settings = {
            _INITIAL_WINDOW_SIZE: limits.call_window_bytes,
            _MAX_FRAME_SIZE: limits.max_frame_bytes,
            _MAX_HEADER_LIST_SIZE: limits.max_metadata_bytes,
        }
        settings |= {_ENABLE_PUSH: 0} if client else {_MAX_CONCURRENT_STREAMS: limits.max_concurrent_calls}
        engine.initiate_connection(settings)
        engine.set_local_window_size(limits.connection_window_bytes)

    def receive(self, data: bytes) -> None:
        """Takes bytes of the peer and tells what they mean.

        Raises:
            ConnectionLostError: If the peer broke the protocol or a limit; nothing works any more. What came with the
                same bytes before that is not told.
        """
        try:
            self._engine.receive_data(data)
        except NGH2Error as error:
            raise ConnectionLostError(f"{type(error).__name__}: {error}") from error
        self.dispatch()

    def dispatch(self) -> None:
        """Tells what sending has brought about, such as that a stream is closed."""
        events = self._events
        for event in self._engine.events():
            if isinstance(event, DataReceived):
                events.body_received(event.stream_id, event.data, event.end_stream)
            elif isinstance(event, RequestReceived):
                events.request_received(event.stream_id, event.headers, event.end_stream)
            elif isinstance(event, StreamClosed):
                events.stream_closed(event.stream_id, event.error_code)
            elif isinstance(event, ResponseReceived):
                events.response_received(event.stream_id, event.headers, event.end_stream)
            elif isinstance(event, TrailersReceived):
                events.trailers_received(event.stream_id, event.headers)
            elif isinstance(event, PingReceived | SettingsReceived):
                events.control_received()
            elif isinstance(event, PingAcknowledged):
                events.ping_acknowledged()
            elif isinstance(event, GoAwayReceived):
                events.go_away_received()
            elif isinstance(event, ConnectionClosed):
                events.engine_closed(event.error_code, event.debug_data)

    def output(self) -> bytes:
        """Gives bytes to send, as far as the windows of the peer allow; there are no more if it is less than a chunk.

        Raises:
            ConnectionLostError: If the connection has failed.
        """
        try:
            amount = None if self._engine.queued_body_size() <= OUTPUT_CHUNK_BYTES else OUTPUT_CHUNK_BYTES
            return self._engine.data_to_send(amount)
        except NGH2Error as error:
            raise ConnectionLostError(f"{type(error).__name__}: {error}") from error

    def unsent(self, stream: int | None = None) -> int:
        """Bytes of bodies that are not put out yet, of one stream or of all."""
        return self._engine.queued_body_size(stream)

    def request(self, fields: Sequence[Field], *, ended: bool = False) -> int:
        """Begins a request and gives its stream.

        Raises:
            ConnectionLostError: If the connection takes no new ones.
        """
        try:
            return self._engine.send_request(fields, end_stream=ended)
        except NGH2Error as error:
            raise ConnectionLostError(f"{type(error).__name__}: {error}") from error

    def respond(self, stream: int, fields: Sequence[Field], *, ended: bool = False) -> None:
        """Begins a response."""
        _unless_gone(self._engine.send_response, stream, fields, end_stream=ended)

    def answer(self, stream: int, fields: Sequence[Field], body: bytes, trailers: Sequence[Field]) -> None:
        """Sends a whole response."""
        engine = self._engine
        try:
            engine.send_response(stream, fields)
            engine.send_data(stream, body)
            engine.send_trailers(stream, trailers)
        except NGH2Error:
            return

    def send(self, stream: int, data: bytes, *, ended: bool = False) -> None:
        """Sends a part of a body."""
        try:
            self._engine.send_data(stream, data, end_stream=ended)
        except NGH2Error:
            return

    def send_trailers(self, stream: int, fields: Sequence[Field]) -> None:
        """Ends a body with trailers."""
        _unless_gone(self._engine.send_trailers, stream, fields)

    def reset(self, stream: int, code: ErrorCode) -> None:
        """Ends a stream at once, whatever of it is unsent."""
        _unless_gone(self._engine.reset_stream, stream, code)

    def acknowledge(self, stream: int, size: int) -> None:
        """Lets the peer send so many more bytes, once they were read; also for streams that were reset meanwhile."""
        try:
            self._engine.acknowledge_received_data(size, stream)
        except NGH2Error:
            return

    def ping(self) -> None:
        """Asks the peer for a sign of life."""
        _unless_gone(self._engine.ping)

    def warn_of_shutdown(self) -> None:
        """Sends the first GOAWAY: no more streams, please; those on their way are still taken."""
        _unless_gone(self._engine.send_shutdown_notice)

    def go_away(self, reason: bytes = b"") -> None:
        """Sends the last GOAWAY; streams in flight go on, and the engine closes after the last of them."""
        _unless_gone(self._engine.send_goaway, debug_data=reason)


def _unless_gone(call: Callable[_Arguments, object], *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
    """Makes a call that is of no use where the peer has just ended the stream or the connection."""
    try:
        call(*args, **kwargs)
    except NGH2Error:
        return
