"""Messages of the policy API, from and to NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from steersman import spaces, tensors
from steersman._client.formats import Format
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.extras import EXTRAS, write_extras
from steersman.policy_names import names_a_version
from steersman.v1 import common_pb2, policy_pb2

State = tuple[npt.NDArray[np.uint8], ...]
"""Recurrent state, as Stable-Baselines3 passes it around; opaque bytes to the client."""


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

    @cached_property
    def format(self) -> Format:
        """What travels between a client and the policy, prepared for many requests."""
        return Format.of(self.spec)


@dataclass(frozen=True)
class Answer:
    """An action, and how it came about.

    Attributes:
        action: The action in the environment's own space, or a batch of them; see `spaces.unflatten`.
        version: The version that answered.
        queue_microseconds: Time that the request waited in the gateway.
        compute_microseconds: Time that the replica spent on the batch that the request was part of.
        state: For a policy with memory, what the next request of the episode has to bring; else empty.
        extras: What was asked for besides, by name.
    """

    action: spaces.Sample
    version: int
    queue_microseconds: int
    compute_microseconds: int
    state: bytes = b""
    extras: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class ActOptions:
    """How to choose an action, and what to bring besides.

    Attributes:
        state: For a policy with memory, the state of the last answer; empty in the first request of an episode.
        episode_start: For a policy with memory, which observations begin an episode.
        deterministic: Whether to take the greedy action instead of drawing one.
        seed: Seed of the draw; None for a random one.
        extras: What to bring besides the action, among `steersman.extras.EXTRAS`.
        batch_priority: Whether to give way to interactive requests.
    """

    state: bytes = b""
    episode_start: npt.ArrayLike | None = None
    deterministic: bool = True
    seed: int | None = None
    extras: Sequence[str] = ()
    batch_priority: bool = False


def act_request(
    policy: str,
    observation: spaces.Sample,
    info: PolicyInfo,
    options: ActOptions,
    *,
    reward: npt.ArrayLike | None = None,
    validate: bool = False,
) -> policy_pb2.ActRequest:
    """Makes the request for one observation, or for a batch of them.

    Args:
        policy: Address of the policy.
        observation: What the environment emits, or a batch of it; see `spaces.flatten`.
        info: What the policy takes.
        options: How to choose the action, and what to bring besides.
        reward: The reward of the step before, for a policy that takes it.
        validate: Whether to check that each observation lies in the policy's observation space.

    Raises:
        InvalidArgumentError: If the observation or the reward does not fit, or an extra is unknown.
    """
    arrays = info.format.encode(observation, reward, validate=validate)
    request = policy_pb2.ActRequest(policy=policy, state=options.state)
    for name, array in arrays.items():
        tensors.encode_into(array, request.observation[name])
    if options.episode_start is not None and info.spec.state_tensors:
        request.episode_start.extend(np.atleast_1d(np.asarray(options.episode_start, bool)).tolist())
    if not options.deterministic or options.extras:
        _write_options(request.options, options)
    if options.batch_priority:
        request.priority = policy_pb2.PRIORITY_BATCH
    return request


def _write_options(message: common_pb2.ActOptions, options: ActOptions) -> None:
    message.sample = not options.deterministic
    if options.seed is not None:
        message.seed = options.seed
    for name in options.extras:
        if name not in EXTRAS:
            raise InvalidArgumentError(f"expected extras among {EXTRAS}, got {name!r}")
    write_extras(message, options.extras)


def read_answer(response: policy_pb2.ActResponse, info: PolicyInfo) -> Answer:
    """Reads a response.

    Args:
        response: The gateway's answer.
        info: What the policy gives.
    """
    # Copies, since callers may write into an action and the message's memory is read-only.
    arrays = {name: tensors.decode(tensor).copy() for name, tensor in response.action.items()}
    action = spaces.unflatten(arrays, info.format.action)
    extras = {name: tensors.decode(tensor).copy()[()] for name, tensor in response.extras.items()}
    return Answer(
        action,
        response.version,
        response.queue_microseconds,
        response.compute_microseconds,
        response.state,
        extras,
    )


def predict_options(
    spec: common_pb2.PolicySpec,
    state: State | None,
    episode_start: npt.ArrayLike | None,
    deterministic: bool,
) -> ActOptions:
    """Translates the arguments of Stable-Baselines3's `predict`.

    Args:
        spec: What the policy takes.
        state: The state that the last call gave; None at the start.
        episode_start: Which elements begin an episode.
        deterministic: Whether to take greedy actions.
    """
    if not spec.state_tensors or not state:
        return ActOptions(deterministic=deterministic)
    return ActOptions(state=state[0].tobytes(), episode_start=episode_start, deterministic=deterministic)


def predict_answer(answer: Answer) -> tuple[spaces.Sample, State | None]:
    """Gives an answer as Stable-Baselines3's `predict` does."""
    state = (np.frombuffer(answer.state, np.uint8),) if answer.state else None
    return answer.action, state


def read_policy(policy: policy_pb2.Policy, address: str) -> PolicyInfo:
    """Picks the version that an address means from a policy's description.

    Args:
        policy: As the gateway describes it.
        address: "name" or "name:version", for the error message.

    Raises:
        FailedPreconditionError: If no version is loaded.
    """
    # For an address that names a version the gateway lists that version alone.
    wanted = policy.versions[0].version if names_a_version(address) and policy.versions else policy.default_version
    for version in policy.versions:
        if version.version == wanted:
            return PolicyInfo(policy.name, version.version, version.spec)
    raise FailedPreconditionError(f"expected policy {address!r} to be loaded, but its replicas are still loading it")
