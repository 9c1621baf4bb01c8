"""The sync client. `steersman.aio` has the same names, to be awaited."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import grpc
import numpy.typing as npt

from steersman import spaces
from steersman._client.blocking_stream import BlockingActionStream
from steersman._client.channel import DEFAULT_ADDRESS, DEFAULT_TIMEOUT_SECONDS, channel_options, channel_target
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
from steersman.errors import from_rpc_error
from steersman.v1 import policy_pb2, policy_pb2_grpc

_GREEDY = ActOptions()


class PolicyClient:
    """Asks a gateway for a policy's actions. Safe to share between threads.

    Args:
        policy: Address of the policy: "name" or "name:version".
        address: The gateway's `host:port`; or those of several gateways, which calls are spread over.
        timeout: Seconds that a call may take, retries included.
        validate: Whether to check, before they are sent, that observations lie in the policy's observation space. That
            they have its parts, shapes and dtypes is always checked.

    Example:
        >>> with PolicyClient("cartpole") as client:
        ...     action = client.act(observation)
    """

    def __init__(
        self,
        policy: str,
        *,
        address: str | Sequence[str] = DEFAULT_ADDRESS,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
        validate: bool = False,
    ) -> None:
        self._policy = policy
        self._address = address
        self._timeout = timeout
        self._validate = validate
        self._channel = grpc.insecure_channel(channel_target(address), options=channel_options())
        self._stub = policy_pb2_grpc.PolicyServiceStub(self._channel)
        self._info: PolicyInfo | None = None

    def describe(self) -> PolicyInfo:
        """Asks what the policy takes and gives; asked once, then remembered.

        Raises:
            steersman.errors.SteersmanError: The gateway's status, such as `NotFoundError` or `UnavailableError`.
        """
        if self._info is None:
            request = policy_pb2.GetPolicyRequest(policy=self._policy)
            try:
                response = self._stub.GetPolicy(request, timeout=self._timeout)
            except grpc.RpcError as error:
                raise from_rpc_error(error) from None
            self._info = read_policy(response.policy, self._policy)
        return self._info

    def request(
        self,
        observation: spaces.Sample,
        options: ActOptions = _GREEDY,
        *,
        reward: npt.ArrayLike | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Asks for an action, or a batch of them, and how it came about.

        Args:
            observation: What the environment emits: arrays and numbers, in dicts and tuples where its space has parts.
                For a batch each array has one more axis in front, or there is a list of observations.
            options: Greedy or drawn, state, extras.
            reward: For a policy that takes it, the reward of the step before, 0 in the first step of an episode; one
                for each observation of a batch.
            timeout: Seconds that this call may take.

        Raises:
            steersman.errors.SteersmanError: `InvalidArgumentError` for an observation that does not fit, else the
                gateway's status.
        """
        info = self.describe()
        request = act_request(self._policy, observation, info, options, reward=reward, validate=self._validate)
        try:
            response = self._stub.Act(request, timeout=self._timeout if timeout is None else timeout)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
        return read_answer(response, info)

    def act(
        self, observation: spaces.Sample, *, reward: npt.ArrayLike | None = None, timeout: float | None = None
    ) -> spaces.Sample:
        """Asks for the greedy action, or a batch of them; see `request`.

        A policy with memory begins an episode with each call; `predict` and `request` hand on its state.

        Returns:
            The action in the environment's own space; for a batch each array has one more axis in front.
        """
        return self.request(observation, reward=reward, timeout=timeout).action

    def predict(
        self,
        observation: spaces.Sample,
        state: State | None = None,
        episode_start: npt.ArrayLike | None = None,
        deterministic: bool = True,
        *,
        reward: npt.ArrayLike | None = None,
    ) -> tuple[spaces.Sample, State | None]:
        """Predicts as Stable-Baselines3's `PolicyPredictor` does, so that its tools can drive a served policy.

        Args:
            observation: One observation or a batch of them.
            state: What the last call gave; None at the start, and for a policy without memory.
            episode_start: Which elements of the batch begin an episode.
            deterministic: Whether to take greedy actions instead of drawing them.
            reward: See `request`.

        Returns:
            The actions and the next state.

        Raises:
            steersman.errors.SteersmanError: See `request`.
        """
        spec = self.describe().spec
        options = predict_options(spec, state, episode_start, deterministic)
        return predict_answer(self.request(observation, options, reward=reward))

    def stream(self) -> BlockingActionStream:
        """Opens a stream: many requests in flight over one call, each far cheaper than a call of its own."""
        return BlockingActionStream(self._policy, self._address, self._timeout, validate=self._validate)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
