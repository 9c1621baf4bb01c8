"""A stream with a client: takes its requests, sends answers, and holds back a client that does not read."""

from __future__ import annotations

import abc
import asyncio
import random
from enum import Enum
from typing import Any

from google.protobuf.message import Message

from services.common.direct import StreamCall
from services.common.errors import as_steersman_error
from services.common.rules import Unreadable
from steersman.errors import InvalidArgumentError, ResourceExhaustedError, SteersmanError

MAX_UNANSWERED = 1024
"""Requests of one stream that may be unanswered. Beyond that the gateway stops reading, so that gRPC's flow control
holds a client back that sends faster than it is answered."""

_LEAST_UNANSWERED = 16
_SHARE_OF_QUEUE = 4
"""All streams together may fill this part of the queue, so that they seldom meet one that is full."""

HOLD_BACK_SECONDS = 0.05
"""How long a stream is not read from that has met a queue that is full."""


class _State(Enum):
    """What still comes and goes.

    Attributes:
        OPEN: Requests come.
        CLOSING: None do any more, but answers are due.
        ENDED: Nothing goes through any more.
    """

    OPEN = "open"
    CLOSING = "closing"
    ENDED = "ended"


class MessageStream(abc.ABC):
    """Serves one stream, as a `StreamHandler`; to be derived from for each protocol.

    A request that cannot be read, or whose `take` raises, is refused, and the stream goes on.

    Args:
        call: The call.
        streams: Keeps those that are open.
    """

    def __init__(self, call: StreamCall, streams: OpenStreams) -> None:
        self._call = call
        self._streams = streams
        self._state = _State.OPEN
        self._paused = False
        self._is_held_back = False
        self._error: SteersmanError | None = None
        streams.opened(self)

    @abc.abstractmethod
    def take(self, message: Any) -> None:  # noqa: ANN401 - whatever the method's requests are
        """Takes a request. Whatever it raises is told to the client as the answer to that request."""

    @abc.abstractmethod
    def refuse(self, message: Any, error: SteersmanError) -> None:  # noqa: ANN401 - likewise
        """Answers a request that was not taken with an error."""

    @abc.abstractmethod
    def shortened(self, answer: Any, error: InvalidArgumentError) -> Message:  # noqa: ANN401 - likewise
        """Gives what takes the place of an answer that is too large to be sent."""

    @abc.abstractmethod
    def unanswered(self) -> int:
        """Tells how many requests there are for which no answer was sent yet."""

    @abc.abstractmethod
    def abandon(self) -> None:
        """Abandons what is in flight, if anything is: nothing goes through any more."""

    @abc.abstractmethod
    def finish(self) -> None:
        """Takes no more requests; the stream ends when everything in flight is answered."""

    def receive(self, message: Any) -> None:  # noqa: ANN401 - whatever the method's requests are
        """Takes a request; drops it once the stream is told to end: its client asks again elsewhere."""
        if self._state is not _State.OPEN or self._streams.are_finished:
            return
        if isinstance(message, Unreadable):
            self.refuse(message.message, message.error)
        else:
            try:
                self.take(message)
            except Exception as error:  # noqa: BLE001 - a fault with one request is no other's
                self.refuse(message, as_steersman_error(error, "taking a request of a stream"))
        self._pause_or_resume()

    def half_close(self) -> None:
        """Ends the stream when everything in flight is answered."""
        self.stop_reading()

    def cancel(self) -> None:
        """Ends the stream, since the client has gone."""
        self._end()

    def stop_reading(self, error: SteersmanError | None = None) -> None:
        """Reads no more; the stream ends when everything in flight is answered.

        Args:
            error: What it ends with; None to end well.
        """
        if self._state is _State.OPEN:
            self._state = _State.CLOSING
            self._error = error
            self.answered()

    def send(self, message: Message) -> None:
        """Sends a message, or what takes its place if it is too large."""
        try:
            self._call.send(message)
        except InvalidArgumentError as error:
            self._call.send(self.shortened(message, error))
        self.answered()

    def answered(self) -> None:
        """Has it look again at how many requests are unanswered."""
        self._pause_or_resume()
        if self._state is _State.CLOSING and not self.unanswered():
            self._call.end(self._error)
            self._end()

    def hold_back(self, error: Exception) -> None:
        """Reads no more for a while if a request was refused for lack of room: the next ones would be, too.

        Args:
            error: What it was refused with.
        """
        if isinstance(error, ResourceExhaustedError) and not self._is_held_back:
            self._is_held_back = True
            asyncio.get_running_loop().call_later(HOLD_BACK_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._is_held_back = False
        self._pause_or_resume()

    def _pause_or_resume(self) -> None:
        paused = self._is_held_back or self.unanswered() >= self._streams.most_unanswered
        if paused is not self._paused and self._state is not _State.ENDED:
            self._paused = paused
            if paused:
                self._call.pause()
            else:
                self._call.resume()

    def _end(self) -> None:
        if self._state is not _State.ENDED:
            self._state = _State.ENDED
            self._streams.ended(self)
            self.abandon()


class OpenStreams:
    """The streams of a service that are open, to have them end when it is time.

    Args:
        queue_observations: How many observations may wait for one policy.
        connection_age_seconds: Age at which gRPC asks clients to replace a connection, which it cuts off at twice that
            age. 0 for never.

    Attributes:
        are_finished: Whether all of them were told to end, since the gateway stops.
    """

    def __init__(self, queue_observations: int, connection_age_seconds: float = 0.0) -> None:
        self._queue_observations = queue_observations
        self._connection_age_seconds = connection_age_seconds
        self._timers: dict[MessageStream, asyncio.TimerHandle | None] = {}
        self.are_finished = False

    @property
    def most_unanswered(self) -> int:
        """How many requests of each may be unanswered: fewer where there are many streams."""
        share = self._queue_observations // (_SHARE_OF_QUEUE * max(1, len(self._timers)))
        return max(_LEAST_UNANSWERED, min(MAX_UNANSWERED, share))

    def finish(self) -> None:
        """Has all of them end, and those that are still to come."""
        self.are_finished = True
        for stream in list(self._timers):
            stream.finish()

    def opened(self, stream: MessageStream) -> None:
        """Keeps a stream among those that are open."""
        timer = None
        if self.are_finished:
            # It has crossed our word for that on the way.
            asyncio.get_running_loop().call_soon(stream.finish)
        if self._connection_age_seconds:
            # A stream may begin when its connection is already of age. So it ends well before its own age is as much
            # as the connection still has, and streams that began together do not all end at once.
            seconds = self._connection_age_seconds * random.uniform(0.6, 0.8)  # noqa: S311 - no secret
            timer = asyncio.get_running_loop().call_later(seconds, stream.finish)
        self._timers[stream] = timer

    def ended(self, stream: MessageStream) -> None:
        """Forgets a stream."""
        timer = self._timers.pop(stream, None)
        if timer is not None:
            timer.cancel()
