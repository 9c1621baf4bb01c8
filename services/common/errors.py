"""Errors to gRPC statuses: the one place where that happens."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import DecodeError

from steersman.errors import InternalError, InvalidArgumentError, ResourceExhaustedError, SteersmanError

_log = logging.getLogger(__name__)
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")
_Context = grpc.aio.ServicerContext[Any, Any]


def answers_errors(
    method: Callable[[Any, _Request, _Context], Awaitable[_Response]],
) -> Callable[[Any, _Request, _Context], Awaitable[_Response]]:
    """Wraps a unary handler so that a `SteersmanError` becomes its status and anything else INTERNAL.

    A decorator rather than an interceptor: grpc.aio charges every call for an interceptor, and nothing for this.
    """

    @functools.wraps(method)
    async def handler(self: Any, request: _Request, context: _Context) -> _Response:  # noqa: ANN401
        try:
            return await method(self, request, context)
        except SteersmanError as error:
            await _abort(context, error)
        except DecodeError as error:
            # Only handlers that read for themselves see this; for others gRPC answers.
            await _abort(context, InvalidArgumentError(f"expected a message of this method, got other bytes: {error}"))
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the last resort of every call
            await _abort(context, unexpected_error(method.__qualname__, error))

    return handler


def answers_stream_errors(
    method: Callable[[Any, _Request, _Context], AsyncIterator[_Response]],
) -> Callable[[Any, _Request, _Context], AsyncIterator[_Response]]:
    """Does the same for a handler that streams its responses."""

    @functools.wraps(method)
    async def handler(self: Any, request: _Request, context: _Context) -> AsyncIterator[_Response]:  # noqa: ANN401
        try:
            async for response in method(self, request, context):
                yield response
        except SteersmanError as error:
            await _abort(context, error)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the last resort of every call
            await _abort(context, unexpected_error(method.__qualname__, error))

    return handler


async def _abort(context: _Context, error: SteersmanError) -> NoReturn:
    """Ends a call with an error's status."""
    metadata: tuple[tuple[str, str], ...] = ()
    if isinstance(error, ResourceExhaustedError) and error.pushback_milliseconds is not None:
        metadata = (("grpc-retry-pushback-ms", str(error.pushback_milliseconds)),)
    await context.abort(error.code, str(error), metadata)


def unexpected_error(name: str, error: Exception) -> InternalError:
    """Logs an error that nobody expected, and gives the one for the client, which tells it no internals.

    Args:
        name: What failed.
        error: The error.
    """
    _log.error("%s failed", name, exc_info=error)
    return InternalError(f"{name} failed unexpectedly ({type(error).__name__}); the service's log says more")
