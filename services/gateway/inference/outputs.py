"""Answers: always raw, since the clients in use take typed outputs for none at all."""

from __future__ import annotations

from services.gateway.inference.datatypes import DATATYPE_NAMES
from services.gateway.observations import TensorFormat
from services.gateway.requests import Request
from services.gateway.versions import Version
from steersman.errors import InvalidArgumentError
from steersman.inference.v1 import inference_pb2


def check_outputs(version: Version, names: tuple[str, ...]) -> None:
    """Refuses to promise outputs that a version does not have.

    Raises:
        InvalidArgumentError: If there is such a name, or one is there twice.
    """
    known = [*(entry.name for entry in version.action), *version.extras]
    for name in names:
        if name not in known:
            raise InvalidArgumentError(f"expected outputs among {known}, got {name!r}")
    if len(set(names)) != len(names):
        raise InvalidArgumentError(f"expected each output once, got {list(names)}")


def write_outputs(request: Request, names: tuple[str, ...], response: inference_pb2.ModelInferResponse) -> None:
    """Writes an answered request.

    Args:
        request: The request; it must have been answered.
        names: The outputs that are wanted; empty for all of the action.
        response: Without outputs so far.
    """
    version = request.version
    response.model_name = request.policy
    response.model_version = str(version.number)
    computed = zip(version.outputs(request.options) if names else version.action, request.outputs, strict=False)
    if names:
        by_name = {tensor_format.name: (tensor_format, elements) for tensor_format, elements in computed}
        for name in names:
            _write(response, request, *by_name[name])
    else:
        for tensor_format, elements in computed:
            _write(response, request, tensor_format, elements)


def _write(
    response: inference_pb2.ModelInferResponse, request: Request, tensor_format: TensorFormat, elements: bytes
) -> None:
    shape = (request.size, *tensor_format.shape) if request.batched else tensor_format.shape
    response.outputs.add(name=tensor_format.name, datatype=DATATYPE_NAMES[tensor_format.dtype], shape=shape)
    response.raw_output_contents.append(elements)
