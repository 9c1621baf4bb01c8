"""One request of one call: submits it, waits for a replica if need be, and then for the answer."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import Message

from services.gateway.intake.waiting_room import WaitingRoom
from services.gateway.requests.request import Request
from steersman.errors import UnavailableError


def deadline_of(context: grpc.aio.ServicerContext[Any, Any]) -> float:
    """Gives the time of `time.monotonic` after which the caller does not want the answer any more."""
    left = context.time_remaining()
    return math.inf if left is None else time.monotonic() + left


async def until_answered(
    submit: Callable[[Callable[[Request], None]], Request],
    waiting_room: WaitingRoom,
    address: str,
    message: Message,
    deadline: float,
) -> Request:
    """Submits a request and waits for its answer.

    Args:
        submit: Submits it, and is given whom to tell when it has finished.
        waiting_room: Where it waits for the first replica of its policy.
        address: Address of the policy.
        message: The request as it came, for its size.
        deadline: Time after which nobody wants the answer.

    Returns:
        The answered request.

    Raises:
        SteersmanError: If there is no answer.
    """
    finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(_: Request) -> None:
        if not finished.done():
            finished.set_result(None)

    try:
        request = submit(wake)
    except UnavailableError as error:
        request = await waiting_room.until_served(error, address, message.ByteSize(), deadline, lambda: submit(wake))
    try:
        await finished
    except asyncio.CancelledError:
        # The caller hung up or its deadline passed; gRPC cancels the handler for both.
        request.abandon(time.monotonic())
        raise
    if request.error is not None:
        raise request.error
    return request
