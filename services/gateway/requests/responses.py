"""Answered requests as messages."""

from __future__ import annotations

from services.gateway.requests.observations import TensorFormat
from services.gateway.requests.request import Request
from steersman.v1 import common_pb2, policy_pb2


def write_response(request: Request, response: policy_pb2.ActResponse) -> None:
    """Writes an answered request, but for its state.

    Args:
        request: The request; it must have been answered.
        response: Empty so far.
    """
    version = request.version
    response.version = version.number
    response.queue_microseconds = int((request.departed - request.arrived) * 1e6)
    response.compute_microseconds = request.compute_microseconds
    for tensor_format, elements in zip(version.action, request.outputs, strict=False):
        _write(response.action[tensor_format.name], request, tensor_format, elements)
    if request.options.extras:
        after_state = len(version.action) + len(version.state)
        for name, elements in zip(request.options.extras, request.outputs[after_state:], strict=True):
            _write(response.extras[name], request, version.extras[name], elements)


def _write(tensor: common_pb2.Tensor, request: Request, tensor_format: TensorFormat, elements: bytes) -> None:
    tensor.dtype = tensor_format.dtype
    if request.batched:
        tensor.shape.append(request.size)
    if tensor_format.shape:
        tensor.shape.extend(tensor_format.shape)
    tensor.data = elements
