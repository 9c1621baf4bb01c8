"""What a client says to a gateway, in which order, and what it makes of the answers; sync, aio and streams alike.

Nothing here waits or sends. An exchange is a generator: it yields steps, whoever drives it carries them out, and sends
in what came of each, or throws in the error.

    >>> exchange = conversation.request(observation, ActOptions(), None, timeout=10.0)
    >>> step = next(exchange)  # Describe(...) the first time, then Act(...)
    >>> step = exchange.send(response)  # until StopIteration brings the answer
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy.typing as npt

from steersman import spaces
from steersman._client.messages import (
    ActOptions,
    Answer,
    PolicyInfo,
    State,
    act_request,
    predict_answer,
    predict_options,
    read_answer,
    read_policy,
)
from steersman._client.options import ConnectionOptions
from steersman.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    MessageTooLargeError,
    ResourceExhaustedError,
    SpacesChangedError,
    SteersmanError,
    UnavailableError,
)
from steersman.v1 import policy_pb2

_REFRESH_SECONDS = 2.0
"""How long a request that failed, or was answered, waits at most to learn what the policy is like now."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Describe:
    """Ask what the policy is like; gives a `GetPolicyResponse`.

    Attributes:
        request: What to send.
        timeout: Seconds.
    """

    request: policy_pb2.GetPolicyRequest
    timeout: float


@dataclass(frozen=True)
class Act:
    """Ask for an action; gives an `ActResponse`.

    Attributes:
        request: What to send.
        timeout: Seconds.
    """

    request: policy_pb2.ActRequest
    timeout: float


@dataclass(frozen=True)
class LookUp:
    """Look up the gateways' names again; gives whether calls lead elsewhere now.

    Attributes:
        timeout: Seconds.
    """

    timeout: float


@dataclass(frozen=True)
class Pause:
    """Wait.

    Attributes:
        seconds: How long.
    """

    seconds: float


Step: TypeAlias = Describe | Act | LookUp | Pause
Exchange: TypeAlias = Generator[Step, Any, _T]


class Conversation:
    """A client's exchanges about one policy, and what they have told of it. Safe to share between threads.

    Args:
        policy: Address of the policy.
        options: How gateways are spoken to.
        validate: Whether to check, before they are sent, that observations lie in the policy's observation space.
    """

    def __init__(self, policy: str, options: ConnectionOptions, *, validate: bool) -> None:
        self._policy = policy
        self._options = options
        self._validate = validate
        self._info: PolicyInfo | None = None
        self._versions: Mapping[int, PolicyInfo] = {}

    def describe(self, timeout: float | None = None) -> Exchange[PolicyInfo]:
        """Asks what the policy takes and gives now.

        Raises:
            SteersmanError: The gateway's status.
        """
        seconds = self._options.timeout if timeout is None else timeout
        response = yield Describe(policy_pb2.GetPolicyRequest(policy=self._policy), seconds)
        self._info, self._versions = read_policy(response.policy, self._policy)
        return self._info

    def request(
        self,
        observation: spaces.Sample,
        options: ActOptions,
        reward: npt.ArrayLike | None,
        timeout: float | None,
        *,
        repeat_unavailable: bool = False,
    ) -> Exchange[Answer]:
        """Asks for an action, or a batch of them.

        Args:
            observation: See `act_request`, as for the others.
            options: See there.
            reward: See there.
            timeout: Seconds for all of it; None for the options' default.
            repeat_unavailable: Whether to repeat what nobody answered: on a stream, since gRPC does it for calls.

        Raises:
            SpacesChangedError: If the policy has other spaces than the request was made for; the next is made for them.
            SteersmanError: For an observation that does not fit, else the gateway's status.
        """
        deadline = time.monotonic() + (self._options.timeout if timeout is None else timeout)
        info = self._info or (yield from self.describe(_left(deadline)))
        while True:
            try:
                message = act_request(
                    self._policy,
                    observation,
                    info,
                    options,
                    reward=reward,
                    validate=self._validate,
                    max_bytes=self._options.max_message_bytes,
                )
                response = yield from self._repeated(message, deadline, repeat_unavailable)
            except MessageTooLargeError:
                raise
            except InvalidArgumentError as error:
                info = yield from self._after_refusal(info, error, deadline)
            else:
                return read_answer(response, (yield from self._answered_by(response.version, info, deadline)))

    def predict(
        self,
        observation: spaces.Sample,
        state: State | None,
        episode_start: npt.ArrayLike | None,
        deterministic: bool,
        reward: npt.ArrayLike | None,
    ) -> Exchange[tuple[spaces.Sample, State | None]]:
        """Predicts as Stable-Baselines3's `PolicyPredictor` does.

        Its callers hand on whatever state there was. A policy that has lost its memory has no use for one, so that such
        a request is repeated without: episodes with a policy without memory go on through changes of versions anyway.
        """
        options = predict_options(state, episode_start, deterministic)
        try:
            answer = yield from self.request(observation, options, reward, None)
        except SpacesChangedError:
            raise
        except (InvalidArgumentError, FailedPreconditionError) as error:
            if not options.state:
                raise
            yield from self._refreshed(error, self._options.timeout)
            if any(info.has_memory for info in self._versions.values()):
                raise
            answer = yield from self.request(observation, ActOptions(deterministic=deterministic), reward, None)
        return predict_answer(answer)

    def _repeated(
        self, message: policy_pb2.ActRequest, deadline: float, repeat_unavailable: bool
    ) -> Exchange[policy_pb2.ActResponse]:
        """Sends a request, again where that can help, until its deadline."""
        attempt = 0
        while True:
            attempt += 1
            try:
                response: policy_pb2.ActResponse = yield Act(message, _left(deadline))
            except UnavailableError:
                if attempt >= self._options.retry.max_attempts:
                    raise
                leads_elsewhere = yield LookUp(_left(deadline))
                if not (repeat_unavailable or leads_elsewhere):
                    raise
                pause = self._options.retry.backoff(attempt)
                if pause >= _left(deadline):
                    raise
            except ResourceExhaustedError as error:
                pushback = error.pushback_milliseconds
                pause = self._options.retry.backoff(attempt) if pushback is None else pushback / 1000
                # A server that pushes back by less than nothing wants no repetition.
                if attempt >= self._options.retry.max_attempts or not 0 <= pause < _left(deadline):
                    raise
            else:
                return response
            yield Pause(pause)

    def _after_refusal(self, info: PolicyInfo, error: InvalidArgumentError, deadline: float) -> Exchange[PolicyInfo]:
        """Finds out whether a request was refused because the policy has changed.

        Args:
            info: What the request was made for.
            error: Why it was refused, here or by the gateway.
            deadline: Seconds of `time.monotonic`.

        Returns:
            What to make it for instead, once.

        Raises:
            SpacesChangedError: If the spaces have changed.
            InvalidArgumentError: The same error, if nothing has changed.
        """
        now = self._info
        if now is None or now is info:
            now = yield from self._refreshed(error, _left(deadline))
        self._check_spaces(info, now)
        if now.spec == info.spec:
            raise error
        return now

    def _answered_by(self, version: int, info: PolicyInfo, deadline: float) -> Exchange[PolicyInfo]:
        """Gives what the version that answered is like, and remembers it.

        Args:
            version: The version.
            info: What the request was made for.
            deadline: Seconds of `time.monotonic`.

        Raises:
            SpacesChangedError: If its spaces are not those.
        """
        if version == info.version:
            return info
        answered = self._versions.get(version)
        if answered is None:
            try:
                yield from self.describe(min(_left(deadline), _REFRESH_SECONDS))
            except SteersmanError:
                return info  # the answer is here, and most versions of a policy have the same spaces
            answered = self._versions.get(version, info)
        self._info = answered
        self._check_spaces(info, answered)
        return answered

    def _refreshed(self, error: SteersmanError, seconds: float) -> Exchange[PolicyInfo]:
        """Asks what the policy is like now, because of an error, which is raised if that cannot be told."""
        try:
            return (yield from self.describe(min(seconds, _REFRESH_SECONDS)))
        except SteersmanError:
            raise error from None

    def _check_spaces(self, before: PolicyInfo, now: PolicyInfo) -> None:
        if not before.format.has_spaces_of(now.format):
            raise SpacesChangedError(
                f"expected policy {self._policy!r} to have the spaces of version {before.version}, which are "
                f"{_spaces(before)}, got version {now.version}, which has {_spaces(now)}; this client goes by those of "
                f"version {now.version} from now on"
            )


def _left(deadline: float) -> float:
    """Gives the seconds that are left, which gRPC wants to be more than none."""
    return max(deadline - time.monotonic(), 1e-3)


def _spaces(info: PolicyInfo) -> str:
    reward = " and the reward of the step before" if info.format.takes_reward else ""
    observation, action = info.spec.observation_space, info.spec.action_space
    return f"observations {spaces.describe(observation)}{reward} and actions {spaces.describe(action)}"
