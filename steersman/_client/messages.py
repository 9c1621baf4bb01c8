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
from steersman.errors import MAX_MESSAGE_VARIABLE, FailedPreconditionError, InvalidArgumentError, MessageTooLargeError
from steersman.extras import EXTRAS, write_extras
from steersman.policy_names import names_a_version
from steersman.v1 import common_pb2, policy_pb2

State = tuple[npt.NDArray[np.uint8], ...]
"""Recurrent state, as Stable-Baselines3 passes it around; opaque bytes to the client."""

_ENVELOPE_BYTES = 64
"""What a message of a stream has besides the request, at most."""


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

    @property
    def has_memory(self) -> bool:
        """Whether a step needs the state of the step before."""
        return bool(self.spec.state_tensors)


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
    """How an action is chosen, and what the answer brings besides.

    Attributes:
        state: The state of the last answer, as it came; empty in the first request of an episode. It is always sent, so
            that a policy which gains memory while it is served has it from its first answer on.
        episode_start: Which observations begin an episode, so that their state is not used.
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
    max_bytes: int | None = None,
) -> policy_pb2.ActRequest:
    """Makes the request for one observation, or for a batch of them.

    Args:
        policy: Address of the policy.
        observation: What the environment emits, or a batch of it; see `spaces.flatten`.
        info: What the policy takes.
        options: How to choose the action, and what to bring besides.
        reward: The reward of the step before, for a policy that takes it.
        validate: Whether to check that each observation lies in the policy's observation space.
        max_bytes: Largest message that is sent or taken; None for any.

    Raises:
        MessageTooLargeError: If the request, or the answer to it, is larger than a message may be.
        InvalidArgumentError: If the observation or the reward does not fit, or an extra is unknown.
    """
    arrays = info.format.encode(observation, reward, validate=validate)
    request = policy_pb2.ActRequest(policy=policy)
    for name, array in arrays.items():
        tensors.encode_into(array, request.observation[name])
    if options.state:
        _write_state(request, options)
    if not options.deterministic or options.extras:
        _write_options(request.options, options)
    if options.batch_priority:
        request.priority = policy_pb2.PRIORITY_BATCH
    if max_bytes is not None:
        axes = spaces.batch_axes(arrays, info.format.observation)
        extra_bytes = sum([info.format.extra_bytes.get(name, 0) for name in options.extras])
        _check_sizes(
            request,
            array_bytes=sum([array.nbytes for array in arrays.values()]),
            answer_bytes=(axes[0] if axes else 1) * (info.format.answer_bytes + extra_bytes),
            max_bytes=max_bytes,
        )
    return request


def _write_state(request: policy_pb2.ActRequest, options: ActOptions) -> None:
    if options.episode_start is not None:
        starts = np.atleast_1d(np.asarray(options.episode_start, bool))
        if starts.all():
            return  # nothing of the state is used: the same as none, but for a policy that has lost its memory
        request.episode_start.extend(starts.tolist())
    request.state = options.state


def _write_options(message: common_pb2.ActOptions, options: ActOptions) -> None:
    message.sample = not options.deterministic
    if options.seed is not None:
        message.seed = options.seed
    for name in options.extras:
        if name not in EXTRAS:
            raise InvalidArgumentError(f"expected extras among {EXTRAS}, got {name!r}")
    write_extras(message, options.extras)


def _check_sizes(request: policy_pb2.ActRequest, *, array_bytes: int, answer_bytes: int, max_bytes: int) -> None:
    """Refuses what gRPC would refuse, before it is sent: repeating it cannot help, and a stream would break.

    Raises:
        MessageTooLargeError: If the request, or the answer to it, is larger than a message may be.
    """
    limit = max_bytes - _ENVELOPE_BYTES
    request_bytes = array_bytes + len(request.state)
    if request_bytes > limit // 2:
        # The exact size costs as much as sending, so it is counted for large messages only.
        request_bytes = request.ByteSize()
    for what, found in (("a request of", request_bytes), ("a request with an answer of", answer_bytes)):
        if found > limit:
            raise MessageTooLargeError(
                f"expected messages of at most {max_bytes} bytes ({MAX_MESSAGE_VARIABLE}, or max_message_bytes of "
                f"ConnectionOptions), got {what} {found} bytes; send smaller batches, or raise the limit on both sides"
            )


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


def predict_options(state: State | None, episode_start: npt.ArrayLike | None, deterministic: bool) -> ActOptions:
    """Translates the arguments of Stable-Baselines3's `predict`.

    Args:
        state: The state that the last call gave; None at the start.
        episode_start: Which elements begin an episode.
        deterministic: Whether to take greedy actions.
    """
    if not state:
        return ActOptions(deterministic=deterministic)
    return ActOptions(state=state[0].tobytes(), episode_start=episode_start, deterministic=deterministic)


def predict_answer(answer: Answer) -> tuple[spaces.Sample, State | None]:
    """Gives an answer as Stable-Baselines3's `predict` does."""
    state = (np.frombuffer(answer.state, np.uint8),) if answer.state else None
    return answer.action, state


def read_policy(policy: policy_pb2.Policy, address: str) -> tuple[PolicyInfo, Mapping[int, PolicyInfo]]:
    """Reads a policy's description.

    Args:
        policy: As the gateway describes it.
        address: "name", "name:version" or "name@alias".

    Returns:
        The version that the address means, and all that are described, by number.

    Raises:
        FailedPreconditionError: If no version is loaded.
    """
    described = {entry.version: PolicyInfo(policy.name, entry.version, entry.spec) for entry in policy.versions}
    # For an address that names a version the gateway lists that version alone.
    wanted = policy.versions[0].version if names_a_version(address) and policy.versions else policy.default_version
    if wanted not in described:
        raise FailedPreconditionError(
            f"expected policy {address!r} to be loaded, but its replicas are still loading it"
        )
    return described[wanted], described
