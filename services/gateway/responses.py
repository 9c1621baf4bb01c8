"""Finished requests as messages."""

from __future__ import annotations

from services.gateway.requests import Request
from steersman.errors import status_number
from steersman.v1 import policy_pb2


def write_response(request: Request, response: policy_pb2.ActResponse) -> None:
    """Writes an answered request into a response.

    Args:
        request: The request; it must have been answered.
        response: Empty so far.
    """
    response.version = request.version.number
    response.queue_microseconds = int((request.departed - request.arrived) * 1e6)
    response.compute_microseconds = request.compute_microseconds
    observation = request.observation
    for tensor_format, elements in zip(request.version.action, request.action, strict=True):
        tensor = response.action[tensor_format.name]
        tensor.dtype = tensor_format.dtype
        if observation.batched:
            tensor.shape.append(observation.size)
        tensor.shape.extend(tensor_format.shape)
        tensor.data = elements


def write_stream_response(request: Request, request_id: int) -> policy_pb2.ActStreamResponse:
    """Writes a finished request as a message of a stream.

    Args:
        request: The request; answered or failed.
        request_id: What the client called it.
    """
    message = policy_pb2.ActStreamResponse(id=request_id)
    if request.error is None:
        write_response(request, message.response)
    else:
        message.error.code = status_number(request.error)
        message.error.message = str(request.error)
    return message
