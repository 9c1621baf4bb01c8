"""The async client."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy.typing as npt

from steersman import spaces
from steersman._client.aio_stream import ActionStream
from steersman._client.connections import AioConnection
from steersman._client.exchange import Conversation
from steersman._client.messages import ActOptions, Answer, PolicyInfo, State
from steersman._client.options import ConnectionOptions, with_overrides

_GREEDY = ActOptions()


class PolicyClient:
    """Asks a gateway for a policy's actions, from one event loop.

    Args:
        policy: Address of the policy: "name", "name:version" or "name@alias".
        address: The gateway's `host:port`; or those of several gateways, which calls are spread over.
        timeout: Seconds that a call may take, repetitions included.
        validate: Whether to check, before they are sent, that observations lie in the policy's observation space. That
            they have its parts, shapes and dtypes is always checked.
        connection: All that there is to say about the connection; `address` and `timeout` go before it.

    Example:
        >>> async with PolicyClient("cartpole") as client:
        ...     action = await client.act(observation)
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
        options = with_overrides(connection, address, timeout)
        self._conversation = Conversation(policy, options, validate=validate)
        self._connection = AioConnection(options)

    async def describe(self) -> PolicyInfo:
        """Asks what the policy takes and gives now.

        Raises:
            steersman.errors.SteersmanError: The gateway's status, such as `NotFoundError` or `UnavailableError`.
        """
        return await self._connection.run(self._conversation.describe())

    async def request(
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
        return await self._connection.run(self._conversation.request(observation, options, reward, timeout))

    # What it was called in the first versions.
    ask = request

    async def act(
        self, observation: spaces.Sample, *, reward: npt.ArrayLike | None = None, timeout: float | None = None
    ) -> spaces.Sample:
        """Asks for the greedy action, or a batch of them; see `request`.

        A policy with memory begins an episode with each call; `predict` and `request` hand on its state.

        Returns:
            The action in the environment's own space; for a batch each array has one more axis in front.
        """
        return (await self.request(observation, reward=reward, timeout=timeout)).action

    async def predict(
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
        return await self._connection.run(exchange)

    def stream(self) -> ActionStream:
        """Opens a stream: many requests in flight over one call, each far cheaper than a call of its own."""
        return ActionStream(self._connection, self._conversation)

    async def close(self) -> None:
        """Closes the connection."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
