"""A stub of the Open Inference Protocol for tests, made of our own messages."""

from __future__ import annotations

from typing import Any, TypeAlias, cast

import grpc
import numpy as np

from steersman.inference.v1 import inference_pb2, inference_pb2_grpc

InferRequest = inference_pb2.ModelInferRequest
Parameter: TypeAlias = Any
"""The value of a parameter: a truth value, a number or a text."""

_OURS = "/steersman.inference.v1."
_THEIRS = "/inference."

_DATATYPES = {"bool": "BOOL", "float16": "FP16", "float32": "FP32", "float64": "FP64"}


class _RenamingChannel:
    """Calls the service by the protocol's name instead of our package's."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    def unary_unary(self, method: str, **arguments: Any) -> Any:  # noqa: ANN401 - what gRPC takes and gives
        return self._channel.unary_unary(method.replace(_OURS, _THEIRS), **arguments)

    def stream_stream(self, method: str, **arguments: Any) -> Any:  # noqa: ANN401 - what gRPC takes and gives
        return self._channel.stream_stream(method.replace(_OURS, _THEIRS), **arguments)


def inference_stub(channel: grpc.aio.Channel) -> inference_pb2_grpc.GRPCInferenceServiceAsyncStub:
    """Makes a stub on a channel."""
    return inference_pb2_grpc.GRPCInferenceServiceStub(cast("grpc.aio.Channel", _RenamingChannel(channel)))


def datatype(dtype: np.dtype[Any]) -> str:
    """Gives the protocol's word for a dtype."""
    return _DATATYPES.get(dtype.name) or dtype.name.upper()


def infer_request(
    model: str, inputs: dict[str, np.ndarray], version: str = "", **parameters: Parameter
) -> InferRequest:
    """Writes a request with raw contents.

    Args:
        model: The model.
        inputs: Arrays by tensor.
        version: The version.
        **parameters: Parameters, of the kind that their types say.
    """
    request = InferRequest(model_name=model, model_version=version)
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=datatype(array.dtype), shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    for name, value in parameters.items():
        set_parameter(request.parameters[name], value)
    return request


def set_parameter(parameter: inference_pb2.InferParameter, value: Parameter) -> None:
    """Sets a parameter to a value of whatever kind it is."""
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    elif isinstance(value, str):
        parameter.string_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        raise TypeError(f"expected a parameter's value, got {value!r}")


def outputs_of(response: inference_pb2.ModelInferResponse) -> dict[str, np.ndarray]:
    """Gives a response's tensors as arrays, by name."""
    names = {word: name for name, word in _DATATYPES.items()}
    return {
        output.name: np.frombuffer(raw, names.get(output.datatype) or output.datatype.lower()).reshape(output.shape)
        for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }
