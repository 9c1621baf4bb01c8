"""The protocols that loads are sent in: Steersman's own, and the Open Inference Protocol."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

from bench.loads import Load
from services.gateway.serving.inference.datatypes import DATATYPE_NAMES
from steersman.inference.v1 import inference_pb2
from steersman.v1 import policy_pb2


@dataclass(frozen=True)
class Protocol:
    """How requests and answers look on the wire.

    Attributes:
        name: As on the command line.
        unary_method: Answers one request.
        stream_method: Answers many.
        request: Writes a load's request.
        action: Reads the elements of the action's tensors, by name, from the answer to one request.
        message: Writes a load's request with an id, at least 1, for a stream.
        message_action: Reads them from an answer of a stream.
        answered: Tells, of an answer of a stream, which id it answers, or None where that is the oldest unanswered one;
            and whether it is an answer and not an error.
    """

    name: str
    unary_method: str
    stream_method: str
    request: Callable[[Load], bytes]
    action: Callable[[bytes], dict[str, bytes]]
    message: Callable[[Load, int], bytes]
    message_action: Callable[[bytes], dict[str, bytes]]
    answered: Callable[[bytes], tuple[int | None, bool]]


_LARGEST_SHORT_ID = 127
_RESPONSE_TAG = policy_pb2.ActStreamResponse.RESPONSE_FIELD_NUMBER << 3 | 2
"""Key of the field `response` on the wire: its number and "length-delimited"."""

_INFER_RESPONSE_TAG = inference_pb2.ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER << 3 | 2
"""Key of the field `infer_response`, which comes first unless there is an error."""


def _act_message(load: Load, number: int) -> bytes:
    # Ids are the first field of every message, and one byte long, so that answers need not be parsed.
    if number > _LARGEST_SHORT_ID:
        raise ValueError(f"expected at most {_LARGEST_SHORT_ID} requests in flight on a stream, got {number}")
    return policy_pb2.ActStreamRequest(id=number, request=load.request()).SerializeToString()


def _act_action(response: policy_pb2.ActResponse) -> dict[str, bytes]:
    return {name: tensor.data for name, tensor in response.action.items()}


def _infer_request(load: Load, number: int = 0, *, always_batched: bool = False) -> bytes:
    act = load.request()
    request = inference_pb2.ModelInferRequest(model_name=act.policy, id=str(number) if number else "")
    for name, tensor in act.observation.items():
        shape = (1, *tensor.shape) if always_batched and not load.observations else tensor.shape
        request.inputs.add(name=name, datatype=DATATYPE_NAMES[tensor.dtype], shape=shape)
        request.raw_input_contents.append(tensor.data)
    return request.SerializeToString()


def _infer_action(response: inference_pb2.ModelInferResponse) -> dict[str, bytes]:
    names = [output.name for output in response.outputs]
    return dict(zip(names, response.raw_output_contents, strict=True))


STEERSMAN = Protocol(
    "steersman",
    "/steersman.v1.PolicyService/Act",
    "/steersman.v1.PolicyService/ActStream",
    request=lambda load: load.request().SerializeToString(),
    action=lambda answer: _act_action(policy_pb2.ActResponse.FromString(answer)),
    message=_act_message,
    message_action=lambda answer: _act_action(policy_pb2.ActStreamResponse.FromString(answer).response),
    answered=lambda answer: (answer[1], answer[2] == _RESPONSE_TAG),
)
OPEN_INFERENCE = Protocol(
    "oip",
    "/inference.GRPCInferenceService/ModelInfer",
    "/inference.GRPCInferenceService/ModelStreamInfer",
    request=_infer_request,
    action=lambda answer: _infer_action(inference_pb2.ModelInferResponse.FromString(answer)),
    message=_infer_request,
    message_action=lambda answer: _infer_action(
        inference_pb2.ModelStreamInferResponse.FromString(answer).infer_response
    ),
    answered=lambda answer: (None, answer[0] == _INFER_RESPONSE_TAG),
)
# Triton takes single observations as batches of one.
_triton_request = functools.partial(_infer_request, always_batched=True)
TRITON = dataclasses.replace(OPEN_INFERENCE, name="triton", request=_triton_request, message=_triton_request)
PROTOCOLS = {protocol.name: protocol for protocol in (STEERSMAN, OPEN_INFERENCE, TRITON)}
