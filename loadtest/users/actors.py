"""Actors that ask again as soon as they are answered, as a simulation does."""

from __future__ import annotations

from typing import Any

from loadtest.users.base import PolicyUser
from steersman.aio import ActionStream, ActOptions, PolicyClient


class UnaryActor(PolicyUser):
    """Steps one environment; each action is a call of its own."""

    kind = "unary actor"

    def step(self) -> None:
        """Asks for an action and takes it."""
        observation = self.source.observe()
        action = self.request(lambda: self.client.act(observation), 1)
        if action is not None:
            self.source.act(action)


class StreamingActor(PolicyUser):
    """Steps one environment; all actions come over one stream."""

    kind = "streaming actor"
    stream: ActionStream

    def step(self) -> None:
        """Asks for an action and takes it."""
        observation = self.source.observe()
        action = self.request(lambda: self.stream.act(observation), 1)
        if action is not None:
            self.source.act(action)

    async def _open(self) -> PolicyClient:
        client = await super()._open()
        self.stream = client.stream()
        return client

    async def _close(self) -> None:
        await self.stream.close()
        await super()._close()


class VectorActor(StreamingActor):
    """Steps many environments at once, whose observations go into one message of a stream."""

    kind = "vectorised actor"
    vector = True

    def step(self) -> None:
        """Asks for an action for each environment and takes them."""
        observations = self.source.observe()
        actions = self.request(lambda: self.stream.act(observations), self.options.vector_size)
        if actions is not None:
            self.source.act(actions)


class RecurrentActor(StreamingActor):
    """Steps one environment with a policy that has memory: each request brings the state of the answer before."""

    kind = "recurrent actor"
    state: bytes = b""
    begins: bool = True

    def step(self) -> None:
        """Asks for an action and takes it."""
        observation = self.source.observe()
        options = ActOptions(state=b"" if self.begins else self.state)
        answer: Any = self.request(lambda: self.stream.request(observation, options), 1)
        if answer is not None:
            self.state = answer.state
            self.begins = self.source.act(answer.action)
