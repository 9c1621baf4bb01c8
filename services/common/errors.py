"""Errors to gRPC statuses: the one place where that happens."""

from __future__ import annotations

import logging
from typing import TypeAlias

import grpc

from steersman.errors import InternalError, ResourceExhaustedError, SteersmanError

_log = logging.getLogger(__name__)

_LONGEST_ENCODED = 4096
"""Bytes of a status message on the wire. It travels in a header, and clients end a call whose headers take more than
8 KiB: with another status, and without the message."""


Status: TypeAlias = tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]]
"""The code, the message and the trailing metadata that a call ends with."""


def status_of(error: Exception, what: str) -> Status:
    """Gives the status for an error.

    Args:
        error: A `SteersmanError` becomes the status of the same name; anything else is logged and becomes INTERNAL. Its
            traceback is taken off, since that holds on to all that was at hand where it was raised.
        what: What raised it, for the log.
    """
    known = as_steersman_error(error, what)
    error.__traceback__ = None
    metadata: tuple[tuple[str, str], ...] = ()
    if isinstance(known, ResourceExhaustedError) and known.pushback_milliseconds is not None:
        metadata = (("grpc-retry-pushback-ms", str(known.pushback_milliseconds)),)
    return known.code, status_message(known), metadata


def as_steersman_error(error: Exception, what: str) -> SteersmanError:
    """Gives the error that a client is told.

    Args:
        error: What was raised.
        what: What raised it, for the log.

    Returns:
        The error itself if it was raised on purpose. Else it is logged with its traceback, and the client gets an
        `InternalError` that names no more than its class.
    """
    if isinstance(error, SteersmanError):
        return error
    _log.error("%s failed", what, exc_info=error)
    return InternalError(f"{what} failed unexpectedly ({type(error).__name__}); the service's log says more")


def status_message(error: SteersmanError) -> str:
    """Gives an error's message as a client is told it: never empty, and never longer than a header may be."""
    text = str(error) or error.code.name
    encoded = 0
    for index, character in enumerate(text):
        # gRPC sends printable ASCII as it is, and each byte of anything else as three (RFC 3986).
        plain = " " <= character <= "~" and character != "%"
        encoded += 1 if plain else 3 * len(character.encode(errors="backslashreplace"))
        if encoded > _LONGEST_ENCODED:
            text = text[:index] + "..."
            break
    # Text with half of a surrogate pair, such as an odd file name, cannot be sent as it is.
    return text.encode(errors="backslashreplace").decode()
