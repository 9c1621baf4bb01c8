"""One request of one call: submits it, waits for a replica if need be, and then for the answer."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import grpc
from google.protobuf.message import Message

from services.gateway.intake.intake import Intake, NotServedYetError, Reader
from services.gateway.requests.request import Request
from steersman.v1 import policy_pb2


def deadline_of(context: grpc.aio.ServicerContext[Any, Any]) -> float:
    """Gives the time of `time.monotonic` after which the caller does not want the answer any more."""
    left = context.time_remaining()
    return math.inf if left is None else time.monotonic() + left


async def until_answered(
    intake: Intake, message: policy_pb2.ActRequest, received: Message, deadline: float, read: Reader | None = None
) -> Request:
    """Submits a request and waits for its answer.

    Args:
        intake: Takes the request.
        message: The request.
        received: The request as it came, for its size, which is costly to tell.
        deadline: Seconds of `time.monotonic` after which nobody wants the answer.
        read: Reads the observation, where it does not come in the message.

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
        request = intake.submit(message, deadline, wake, read)
    except NotServedYetError as error:
        request = await intake.submit_once_served(error, message, received.ByteSize(), deadline, wake, read)
    try:
        await finished
    except asyncio.CancelledError:
        # The caller hung up or its deadline passed; gRPC cancels the handler for both.
        request.abandon(time.monotonic())
        raise
    if request.error is not None:
        raise request.error
    return request
