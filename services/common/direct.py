"""Direct handlers: methods that end their calls themselves, whenever they have the answer.

On our own gRPC server (`native`) such a call costs no task, no future and no coroutine; on grpcio's (`direct_grpcio`)
it works all the same. Which of them serves it, a handler does not see.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from google.protobuf.message import Message

_Method = TypeVar("_Method", bound=Callable[..., object])

_MARK = "_steersman_direct"


class UnaryCall(abc.ABC):
    """A call of one request and one answer. It is ended by `answer` or `fail`, once; later ones do nothing.

    Attributes:
        deadline: Seconds of `time.monotonic` after which nobody wants the answer; infinite if the client set none.
        on_cancel: Called when nobody wants the answer any more and the call has not ended. To be set by the handler.
    """

    __slots__ = ("deadline", "on_cancel")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.on_cancel: Callable[[], object] | None = None

    @abc.abstractmethod
    def answer(self, response: Message) -> None:
        """Ends the call with its answer, or with an error if that is too large."""

    @abc.abstractmethod
    def fail(self, error: Exception) -> None:
        """Ends the call with an error."""


class StreamCall(abc.ABC):
    """A call of many messages both ways."""

    __slots__ = ()

    @abc.abstractmethod
    def send(self, message: Message) -> None:
        """Sends a message once those before it are sent; nothing if the client has gone.

        Raises:
            InvalidArgumentError: If it is too large. The call goes on.
        """

    @abc.abstractmethod
    def pause(self) -> None:
        """Reads no more for now, so that gRPC's flow control holds the client back."""

    @abc.abstractmethod
    def resume(self) -> None:
        """Reads again."""

    @abc.abstractmethod
    def end(self, error: Exception | None = None) -> None:
        """Ends the call, once what was sent before has gone out; well, if there is no error."""


class StreamHandler(Protocol):
    """Is told what comes on one stream. What it raises ends the call."""

    def receive(self, message: Any) -> None:  # noqa: ANN401 - whatever the method's requests are
        """A request has come; an `Unreadable` in the place of one that cannot be taken."""

    def half_close(self) -> None:
        """The client sends no more, or has gone; in that case `cancel` may follow."""

    def cancel(self) -> None:
        """The client has gone, or the call has failed: nothing goes through any more.

        Not told once the handler has ended the call.
        """


UnaryMethod = Callable[[Any, UnaryCall], None]
"""Takes a request, and ends its call now or later, or raises."""

StreamMethod = Callable[[StreamCall], StreamHandler]
"""Begins to handle a stream."""


def direct(method: _Method) -> _Method:
    """Marks a method of a servicer as a `UnaryMethod` or `StreamMethod`."""
    setattr(method, _MARK, True)
    return method


def is_direct(method: object) -> bool:
    """Tells whether a method is marked so."""
    return getattr(method, _MARK, False) is True
