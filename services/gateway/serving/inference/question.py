"""What a request asks for, in our own terms: whom, how, and for which outputs."""

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
from steersman.v1 import policy_pb2


class Question(NamedTuple):
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
        """Gives the time after which the answer is of no use, as far as the request says so itself."""
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


def read_question(request: inference_pb2.ModelInferRequest) -> Question:
    """Reads a request.

    Raises:
        InvalidArgumentError: If it makes no sense, whatever the policy.
        NotFoundError: If no policy can have such a version.
    """
    if not request.parameters and not request.outputs:
        return Question(_plain(request.model_name, request.model_version), read_inputs(request), (), NO_PARAMETERS)
    parameters = read_parameters(request.parameters)
    outputs = tuple([output.name for output in request.outputs])
    message = _write(address_of(request.model_name, request.model_version), parameters, outputs)
    return Question(message, read_inputs(request), outputs, parameters)


@functools.lru_cache(maxsize=4096)
def address_of(model_name: str, model_version: str) -> str:
    """Gives the address of a policy, or of one of its versions.

    Raises:
        InvalidArgumentError: If there is no name, or the version is no whole number.
        NotFoundError: If no policy can have such a version.
    """
    if not model_name:
        raise InvalidArgumentError("expected the name of a model, got none")
    if not model_version:
        return model_name
    if not (model_version.isascii() and model_version.isdigit()):
        raise InvalidArgumentError(f"expected the version of a model in decimal digits, got {model_version!r}")
    if not int(model_version):
        raise NotFoundError(f"expected a version of model {model_name!r} of at least 1, got {model_version}")
    return f"{model_name}:{int(model_version)}"


@functools.lru_cache(maxsize=4096)
def _plain(model_name: str, model_version: str) -> policy_pb2.ActRequest:
    return policy_pb2.ActRequest(policy=address_of(model_name, model_version))


def _write(address: str, parameters: Parameters, outputs: tuple[str, ...]) -> policy_pb2.ActRequest:
    message = policy_pb2.ActRequest(policy=address)
    if not parameters.interactive:
        message.priority = policy_pb2.PRIORITY_BATCH
    if parameters.sequence_id:
        message.session_ids.append(parameters.sequence_id)
        message.episode_start.append(parameters.sequence_start)
    options = message.options
    options.sample = not parameters.deterministic
    if parameters.seed is not None:
        options.seed = parameters.seed
    write_extras(options, outputs)
    return message
