"""The sync client."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy.typing as npt

from steersman import spaces
from steersman._client.connections import Connection
from steersman._client.exchange import Conversation
from steersman._client.messages import ActOptions, Answer, PolicyInfo, State
from steersman._client.options import ConnectionOptions, with_overrides
from steersman._client.sync_stream import ActionStream

_GREEDY = ActOptions()


class PolicyClient:
    """Asks a gateway for a policy's actions, safe to share between threads.

    Args:
        policy: Address of the policy: "name", "name:version" or "name@alias".
        address: The gateway's `host:port`; or those of several gateways, which calls are spread over.
        timeout: Seconds that a call may take, repetitions included.
        validate: Whether to check, before they are sent, that observations lie in the policy's observation space. That
            they have its parts, shapes and dtypes is always checked.
        connection: All that there is to say about the connection; `address` and `timeout` go before it.

    Example:
        >>> with PolicyClient("cartpole") as client:
        ...     action = client.act(observation)
    """

    def __init__(
        self,
        policy: str,
        *,
        address: str | Sequence[str] | None = None,
        timeout: float | None = None,
        validate: bool = False,
        connection: ConnectionOptions | None = None,
    ) -> None:
        self._options = with_overrides(connection, address, timeout)
        self._conversation = Conversation(policy, self._options, validate=validate)
        self._connection = Connection(self._options)

    def describe(self) -> PolicyInfo:
        """Asks what the policy takes and gives now.

        Raises:
            steersman.errors.SteersmanError: The gateway's status, such as `NotFoundError` or `UnavailableError`.
        """
        return self._connection.run(self._conversation.describe())

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
            timeout: Seconds that this call may take, in all.

        Raises:
            steersman.errors.InvalidArgumentError: If the observation does not fit; `MessageTooLargeError` if it is too
                large.
            steersman.errors.SpacesChangedError: If the policy's spaces have changed since it was described; requests
                that fit the new ones are answered from then on.
            steersman.errors.SteersmanError: Else the gateway's status.
        """
        return self._connection.run(self._conversation.request(observation, options, reward, timeout))

    # What it was called in the first versions.
    ask = request

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

        The policy may gain or lose its memory meanwhile: a state is sent if there is one, and not once no version has
        memory any more.

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
        exchange = self._conversation.predict(observation, state, episode_start, deterministic, reward)
        return self._connection.run(exchange)

    def stream(self) -> ActionStream:
        """Opens a stream: many requests in flight over one call, each far cheaper than a call of its own."""
        return ActionStream(self._options, self._conversation)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
