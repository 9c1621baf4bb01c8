"""Messages of the policy API, from and to NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from steersman import spaces, tensors
from steersman.errors import FailedPreconditionError
from steersman.v1 import common_pb2, policy_pb2

State = tuple[npt.NDArray[np.generic], ...]
"""Recurrent state, as Stable-Baselines3 passes it around."""


@dataclass(frozen=True)
class PolicyInfo:
    """What a policy takes and gives.

    Attributes:
        name: Its name.
        version: The version that requests go to.
        spec: Spaces, tensors, environment, algorithm and model hash.
    """

    name: str
    version: int
    spec: common_pb2.PolicySpec


@dataclass(frozen=True)
class Answer:
    """An action, and how it came about.

    Attributes:
        action: The action in the environment's own space, or a batch of them.
        version: The version that answered.
        queue_microseconds: Time that the request waited in the gateway.
        compute_microseconds: Time that the replica spent on the batch that the request was part of.
    """

    action: npt.NDArray[Any]
    version: int
    queue_microseconds: int
    compute_microseconds: int


def act_request(policy: str, observation: npt.ArrayLike, spec: common_pb2.PolicySpec) -> policy_pb2.ActRequest:
    """Makes the request for one observation, or for a batch of them.

    Args:
        policy: Address of the policy.
        observation: What the environment emits; with one more axis in front for a batch.
        spec: What the policy takes.

    Raises:
        steersman.errors.InvalidArgumentError: If the observation does not fit.
    """
    arrays = spaces.flatten(observation, list(spec.observation_tensors))
    return policy_pb2.ActRequest(
        policy=policy, observation={name: tensors.encode(array) for name, array in arrays.items()}
    )


def read_answer(response: policy_pb2.ActResponse, spec: common_pb2.PolicySpec) -> Answer:
    """Reads a response.

    Args:
        response: The gateway's answer.
        spec: What the policy gives.
    """
    arrays = {name: tensors.decode(tensor) for name, tensor in response.action.items()}
    # A copy, since callers may write into an action and the message's memory is read-only; [()] makes a scalar of an
    # action without axes, which is what Discrete.contains and step() expect.
    action = spaces.unflatten(arrays, list(spec.action_tensors)).copy()[()]
    return Answer(action, response.version, response.queue_microseconds, response.compute_microseconds)


def read_policy(policy: policy_pb2.Policy, address: str) -> PolicyInfo:
    """Picks the version that an address means from a policy's description.

    Args:
        policy: As the gateway describes it.
        address: "name" or "name:version", for the error message.

    Raises:
        FailedPreconditionError: If no version is loaded.
    """
    # For "name:version" the gateway lists that version alone.
    wanted = policy.versions[0].version if ":" in address and policy.versions else policy.default_version
    for version in policy.versions:
        if version.version == wanted:
            return PolicyInfo(policy.name, version.version, version.spec)
    raise FailedPreconditionError(f"expected policy {address!r} to be loaded, but its replicas are still loading it")


def check_predict(deterministic: bool) -> None:
    """Refuses what `predict` cannot do.

    Raises:
        FailedPreconditionError: If sampled actions are asked for.
    """
    if not deterministic:
        raise FailedPreconditionError("expected deterministic=True: this version serves greedy actions only")
