"""Users that ask at a rate, whether or not they have been answered: robots, and simulations that run in real time."""

from __future__ import annotations

import random
import time
from typing import Any, ClassVar

import gevent

from loadtest.users.actors import StreamingActor
from loadtest.users.base import timed

_JITTER = 0.2
"""By how much of a period a request may come early or late."""

_BURST_SHARE = 0.05
_BURST_REQUESTS = 4


class Robot(StreamingActor):
    """Asks at a rate with jitter, and now and then a few times at once, as robots do whose network held them up.

    A period in which it still waits for the answer to the last one is not made up for; it counts as missed.
    """

    kind = "robot"
    burst_share: ClassVar[float] = _BURST_SHARE

    def on_start(self) -> None:
        """Connects, and begins at some time within a period, so that a fleet is spread."""
        super().on_start()
        self.due = time.monotonic() + random.random() / self.options.rate  # noqa: S311 - no secret

    def step(self) -> None:
        """Waits until it is time, then asks."""
        period = 1 / self.options.rate
        gevent.sleep(max(0.0, self.due + random.uniform(-_JITTER, _JITTER) * period - time.monotonic()))  # noqa: S311
        requests = _BURST_REQUESTS if random.random() < self.burst_share else 1  # noqa: S311
        observation = self.source.observe()
        size = self.options.vector_size if self.vector else 1
        if requests == 1:
            action = self.request(lambda: self.act(observation), size)
        else:
            asked = [gevent.spawn(self.bridge.run, timed(lambda: self.act(observation))) for _ in range(requests)]
            action = None
            for answer in gevent.joinall(asked):
                action, seconds, error = answer.get()
                self.tell(seconds, size, error)
        if action is not None:
            self.source.act(action)
        self.due += period
        missed = int(max(0.0, time.monotonic() - self.due) / period)
        self.missed(missed)
        self.due += missed * period

    async def act(self, observation: Any) -> Any:  # noqa: ANN401 - of the policy's spaces
        """Asks."""
        return await self.stream.act(observation)


class PacedVectorActor(Robot):
    """Steps many environments at once, at a rate."""

    kind = "paced vectorised actor"
    vector = True
    burst_share = 0.0


class PacedUnaryVectorActor(PacedVectorActor):
    """The same with a call of its own for each message, for servers that cannot do streams."""

    kind = "paced vectorised actor, unary"

    async def act(self, observation: Any) -> Any:  # noqa: ANN401
        """Asks."""
        return await self.client.act(observation)
