"""Changes of what is served: asked for once, and again where the answer was lost, without being made twice."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import grpc

from steersman._client.failures import is_lost
from steersman.cli.connection import actor, call_seconds
from steersman.cli.output import note

_AGAIN_SECONDS = 15.0
"""How long it is asked again: a gateway that is replaced takes a few seconds."""

_PAUSE_SECONDS = 0.5


class ChangeRequest(Protocol):
    """A request that the admin API makes no second change for if it comes with the same id again."""

    request_id: str


_Request = TypeVar("_Request", bound=ChangeRequest)
_Response = TypeVar("_Response")


def make_change(call: Callable[..., _Response], request: _Request) -> _Response:
    """Asks for a change; again with the same id if the connection was lost before there was an answer.

    Args:
        call: A method of the admin API.
        request: What to ask; gets an id.

    Raises:
        grpc.RpcError: If the change is refused, or there is no answer.
    """
    request.request_id = uuid.uuid4().hex
    arguments: dict[str, Any] = {"timeout": call_seconds(), "metadata": actor()}
    give_up = 0.0
    while True:
        try:
            return call(request, **arguments)
        except grpc.RpcError as error:
            if not give_up and is_lost(error):
                note("The connection was lost before there was an answer; asking again.")
                give_up = time.monotonic() + _AGAIN_SECONDS
            if not _is_unavailable(error) or time.monotonic() > give_up:
                raise
            time.sleep(_PAUSE_SECONDS)


def _is_unavailable(error: grpc.RpcError) -> bool:
    return isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNAVAILABLE
