"""The errors of Steersman, the same on both ends of the wire.

A service raises one of these where it knows what is wrong; the server turns it into the gRPC status of the same name,
and the client turns that status back into the same exception. The message is one sentence that names what was expected
and what came.
"""

from __future__ import annotations

import re
from typing import ClassVar

import grpc


class SteersmanError(Exception):
    """Base of all errors that Steersman raises on purpose.

    Attributes:
        code: The gRPC status code that it travels as.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.UNKNOWN


class InvalidArgumentError(SteersmanError, ValueError):
    """The request itself is wrong; sending it again cannot help."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class MessageTooLargeError(InvalidArgumentError):
    """A request, or its answer, has more bytes than a message may have; sending it again cannot help."""


class NotFoundError(SteersmanError, LookupError):
    """The thing asked for does not exist."""

    code = grpc.StatusCode.NOT_FOUND


class FailedPreconditionError(SteersmanError):
    """The request is well formed, but the system is not in a state in which it could ever be carried out."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class SpacesChangedError(FailedPreconditionError):
    """The policy's spaces have changed since the client asked for them; from now on it goes by the new ones."""


class AbortedError(SteersmanError):
    """Somebody else's change came first; look at how things are now, then try again."""

    code = grpc.StatusCode.ABORTED


class ResourceExhaustedError(SteersmanError):
    """A limit was reached; the same request may succeed later.

    Args:
        message: The sentence.
        pushback_milliseconds: When to try again, which travels as `grpc-retry-pushback-ms`; None to leave it open.
    """

    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, message: str, pushback_milliseconds: int | None = None) -> None:
        super().__init__(message)
        self.pushback_milliseconds = pushback_milliseconds


class UnavailableError(SteersmanError):
    """Nothing can answer now; trying later or elsewhere is right."""

    code = grpc.StatusCode.UNAVAILABLE


class UnreachableError(UnavailableError):
    """There is no connection to the address: nothing listens there, or what does, does not answer."""


class ConnectionLostError(UnavailableError):
    """The connection broke while a call was on its way."""


class DeadlineExceededError(SteersmanError, TimeoutError):
    """The caller's deadline passed before there was an answer."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class CancelledError(SteersmanError):
    """The call was cancelled before there was an answer."""

    code = grpc.StatusCode.CANCELLED


class InternalError(SteersmanError):
    """Something broke that should not have; the service's log has the details."""

    code = grpc.StatusCode.INTERNAL


MAX_MESSAGE_VARIABLE = "STEERSMAN_MAX_MESSAGE_BYTES"
"""The environment variable, and setting, that bounds messages; each side has its own."""

# What gRPC says where a message is larger than a limit.
_TOO_LARGE = re.compile(r"(CLIENT|SERVER): (Sent|Received) message larger than max \((\d+) vs\. (\d+)\)")

# What our own servers and channels say then.
_TOO_LARGE_FOR_US = re.compile(
    r"(CLIENT: )?expected a message of at most (\d+) bytes, got one (?:of (\d+)|that inflates)"
)

_BY_CODE: dict[grpc.StatusCode, type[SteersmanError]] = {
    error.code: error
    for error in (
        InvalidArgumentError,
        NotFoundError,
        FailedPreconditionError,
        AbortedError,
        ResourceExhaustedError,
        UnavailableError,
        DeadlineExceededError,
        CancelledError,
        InternalError,
    )
}
_BY_NUMBER: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def from_status(code: grpc.StatusCode | int, message: str) -> SteersmanError:
    """Makes the exception that a gRPC status stands for.

    Args:
        code: The status code, as gRPC's enumeration or as its number on the wire.
        message: The status message.

    Returns:
        The exception; a plain `SteersmanError` for a code that has no class of its own.
    """
    if isinstance(code, int):
        code = _BY_NUMBER.get(code, grpc.StatusCode.UNKNOWN)
    return _BY_CODE.get(code, SteersmanError)(message)


def from_rpc_error(error: grpc.RpcError) -> SteersmanError:
    """Makes the exception that a failed call stands for.

    Args:
        error: What gRPC raised, from a sync or an async call.

    Returns:
        The exception, with the status message as its message. `steersman._client.failures` finds better words for what
        gRPC itself says.
    """
    # Every RpcError that a call raises is a grpc.Call too, which the type does not say.
    assert isinstance(error, (grpc.Call, grpc.aio.AioRpcError))  # noqa: S101
    details = error.details() or error.code().name
    if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if (too_large := _TOO_LARGE.search(details)) is not None:
            return _too_large(*too_large.groups())
        if (too_large := _TOO_LARGE_FOR_US.match(details)) is not None:
            ours, limit, size = too_large.groups()
            return _too_large("CLIENT" if ours else "SERVER", "Received", size or "more", limit)
        return ResourceExhaustedError(details, _pushback(error))
    return from_status(error.code(), details)


def _too_large(side: str, verb: str, size: str, limit: str) -> MessageTooLargeError:
    """Says which message was too large, and for whom, where gRPC refused it: with the status of a limit that passes."""
    message = "request" if (side, verb) in {("CLIENT", "Sent"), ("SERVER", "Received")} else "answer"
    whose = "this client takes" if side == "CLIENT" else "the server takes"
    return MessageTooLargeError(
        f"expected a message of at most the {limit} bytes that {whose} ({MAX_MESSAGE_VARIABLE}), got {message} of "
        f"{size} bytes; send smaller batches, or raise the limit on both sides"
    )


def _pushback(error: grpc.Call | grpc.aio.AioRpcError) -> int | None:
    """Reads when to try again."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-retry-pushback-ms":
            try:
                return int(value)
            except ValueError:
                return None
    return None


def status_number(error: SteersmanError) -> int:
    """Gives the number on the wire of an error's status code."""
    number: int = error.code.value[0]
    return number
