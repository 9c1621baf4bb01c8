"""One request of one call: submits it, waits for a replica if need be, and ends the call once it is answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from google.protobuf.message import Message

from services.common.direct import UnaryCall
from services.gateway.intake.intake import Intake, NotServedYetError, Reader
from services.gateway.requests.request import Request
from steersman.v1 import policy_pb2


def submit_for(
    call: UnaryCall,
    intake: Intake,
    message: policy_pb2.ActRequest,
    received: Message,
    deadline: float,
    respond: Callable[[Request], Message],
    read: Reader | None = None,
) -> None:
    """Submits a request for a call.

    Args:
        call: Ended when the request is answered or has failed; the request is abandoned if nobody waits for it.
        intake: Takes the request.
        message: The request.
        received: The request as it came, for its size, which is costly to tell.
        deadline: Seconds of `time.monotonic` after which nobody wants the answer.
        respond: Writes the answered request.
        read: Reads the observation, where it does not come in the message.

    Raises:
        SteersmanError: If it is refused.
    """

    def finished(request: Request) -> None:
        if request.error is not None:
            call.fail(request.error)
        else:
            call.answer(respond(request))

    def abandon_with_call(request: Request) -> None:
        call.on_cancel = lambda: request.abandon(time.monotonic())

    async def submit_once_served(error: NotServedYetError) -> None:
        try:
            request = await intake.submit_once_served(error, message, received.ByteSize(), deadline, finished, read)
        except Exception as refused:  # noqa: BLE001 - whatever it is, the call ends
            call.fail(refused)
        else:
            abandon_with_call(request)

    try:
        abandon_with_call(intake.submit(message, deadline, finished, read))
    except NotServedYetError as error:
        call.on_cancel = asyncio.create_task(submit_once_served(error)).cancel
