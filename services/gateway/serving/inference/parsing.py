"""A request of the protocol in our own terms: for which policy, how, and for which outputs."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

from services.gateway.requests.observations import Observation, read_observation
from services.gateway.requests.versions import Version
from services.gateway.serving.inference.inputs import InputTensor, read_inputs
from services.gateway.serving.inference.outputs import check_outputs
from services.gateway.serving.inference.parameters import NO_PARAMETERS, Parameters, read_parameters
from steersman.errors import InvalidArgumentError, NotFoundError
from steersman.extras import write_extras
from steersman.inference.v1 import inference_pb2
from steersman.policy_names import MAX_ADDRESS_LENGTH
from steersman.quoting import quoted
from steersman.v1 import policy_pb2

MAX_ID_BYTES = 512
"""Bytes of a request's id at most."""


class ParsedRequest(NamedTuple):
    """A request, read as far as that goes without knowing the policy.

    Attributes:
        message: Everything but the observation. Not to be changed: it may be shared.
        inputs: The observation's tensors.
        outputs: Names of the outputs that are wanted; empty for all of the action.
        parameters: The parameters.
    """

    message: policy_pb2.ActRequest
    inputs: dict[str, InputTensor]
    outputs: tuple[str, ...]
    parameters: Parameters

    def deadline(self, now: float) -> float:
        """Gives the time after which the answer is of no use, as far as the request says so itself.

        Args:
            now: Seconds of `time.monotonic`, as is the result.
        """
        timeout = self.parameters.timeout_seconds
        return now + timeout if timeout else math.inf

    def read(self, version: Version) -> Observation:
        """Gives the observation, checked against what a version takes.

        Raises:
            InvalidArgumentError: If it does not fit, or an output is wanted that the version does not have.
        """
        if self.outputs:
            check_outputs(version, self.outputs)
        return read_observation(self.inputs, version.observation)


def parse_request(request: inference_pb2.ModelInferRequest) -> ParsedRequest:
    """Reads a request.

    Raises:
        InvalidArgumentError: If it makes no sense, whatever the policy.
        NotFoundError: If no policy can have such a version.
    """
    if len(request.id) > MAX_ID_BYTES:
        raise InvalidArgumentError(f"expected an id of at most {MAX_ID_BYTES} bytes, got {quoted(request.id)}")
    if not request.parameters and not request.outputs:
        _check_lengths(request.model_name, request.model_version)
        message = _message_without_parameters(request.model_name, request.model_version)
        return ParsedRequest(message, read_inputs(request), (), NO_PARAMETERS)
    parameters = read_parameters(request.parameters)
    outputs = tuple([output.name for output in request.outputs])
    message = _message(address_of(request.model_name, request.model_version), parameters, outputs)
    return ParsedRequest(message, read_inputs(request), outputs, parameters)


def address_of(model_name: str, model_version: str) -> str:
    """Gives the address of a policy, or of one of its versions.

    Raises:
        InvalidArgumentError: If there is no name, the version is no whole number, or they are longer than an address.
        NotFoundError: If no policy can have such a version.
    """
    _check_lengths(model_name, model_version)
    if not model_name:
        raise InvalidArgumentError("expected the name of a model, got none")
    if not model_version:
        return model_name
    if not (model_version.isascii() and model_version.isdigit()):
        raise InvalidArgumentError(f"expected the version of a model in decimal digits, got {quoted(model_version)}")
    if not int(model_version):
        raise NotFoundError(
            f"expected a version of model {quoted(model_name)} of at least 1, got {quoted(model_version)}"
        )
    return f"{model_name}:{int(model_version)}"


def _check_lengths(model_name: str, model_version: str) -> None:
    """Refuses what is too long, before it is looked up or kept.

    Raises:
        InvalidArgumentError: If it is.
    """
    for name, text in (("name", model_name), ("version", model_version)):
        if len(text) > MAX_ADDRESS_LENGTH:
            raise InvalidArgumentError(
                f"expected the {name} of a model with at most {MAX_ADDRESS_LENGTH} characters, got {quoted(text)}"
            )


# A client asks for the same model again and again.
@functools.lru_cache(maxsize=4096)
def _message_without_parameters(model_name: str, model_version: str) -> policy_pb2.ActRequest:
    return policy_pb2.ActRequest(policy=address_of(model_name, model_version))


def _message(address: str, parameters: Parameters, outputs: tuple[str, ...]) -> policy_pb2.ActRequest:
    message = policy_pb2.ActRequest(policy=address)
    if not parameters.interactive:
        message.priority = policy_pb2.PRIORITY_BATCH
    if parameters.sequence_id:
        message.session_ids.append(parameters.sequence_id)
        message.episode_start.append(parameters.sequence_start)
        if parameters.sequence_step:
            message.steps.append(parameters.sequence_step)
    options = message.options
    options.sample = not parameters.deterministic
    if parameters.seed is not None:
        options.seed = parameters.seed
    write_extras(options, outputs)
    return message
