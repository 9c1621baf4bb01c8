"""The load: clients with the SDK's defaults that go on asking, whatever happens, and take note of what they get."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from faults.models import OBSERVATION
from steersman import spaces
from steersman.aio import PolicyClient
from steersman.errors import SteersmanError

REQUESTS_PER_SECOND = 40.0
"""Of each client. What counts is what becomes of requests, not how many there can be."""

_UNARY_CLIENTS = 2
_PROMPT_SECONDS = 1.0
"""By how much a status may come later than the deadline."""


@dataclass
class Tally:
    """What clients got.

    Attributes:
        requests: Requests that were made.
        failures: Why requests failed, and how often.
        latencies: Seconds from asking to the answer.
        answered: Times at which answers came.
    """

    requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Requests that failed."""
        return sum(self.failures.values())

    @property
    def longest_gap(self) -> float:
        """Seconds, at most, between two answers; 0 if there are none."""
        return max((later - earlier for earlier, later in itertools.pairwise(sorted(self.answered))), default=0.0)

    @property
    def p99(self) -> float:
        """99th percentile of the latency in seconds; 0 if there are no answers."""
        return float(np.percentile(self.latencies, 99)) if self.latencies else 0.0


class _Asking(Protocol):
    """A client or a stream."""

    async def act(self, observation: spaces.Sample, *, timeout: float | None = None) -> spaces.Sample:
        """Asks for an action."""


class Load:
    """Asks steadily, on calls of their own and on a stream, from the beginning of the block to its end.

    Args:
        policy: Whom.
        address: The gateway.
        timeout: Seconds that a request may take; None for the SDK's default.
        hasty_timeout: If set, one more client asks with so little time. Its requests may fail, but not late.

    Attributes:
        tally: What clients with time enough got.
        hasty: What the hasty one got; only statuses that came late count as failures.
    """

    def __init__(
        self, policy: str, address: str, timeout: float | None = None, hasty_timeout: float | None = None
    ) -> None:
        self.tally = Tally()
        self.hasty = Tally()
        self._policy = policy
        self._address = address
        self._timeout = timeout
        self._hasty_timeout = hasty_timeout
        self._clients: list[PolicyClient] = []
        self._asking: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        unary = [self._client() for _ in range(_UNARY_CLIENTS)]
        streaming = self._client()
        self._stream = streaming.stream()
        kinds: list[_Asking] = [*unary, self._stream]
        self._asking = [asyncio.create_task(self._ask(asking, self._timeout, self.tally)) for asking in kinds]
        if self._hasty_timeout is not None:
            hasty = asyncio.create_task(self._ask(self._client(), self._hasty_timeout, self.hasty))
            self._asking.append(hasty)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        try:
            await asyncio.gather(*self._asking)
        finally:
            await self._stream.close()
            for client in self._clients:
                await client.close()

    async def until_answered(self, count: int) -> None:
        """Waits for so many more answers."""
        wanted = len(self.tally.answered) + count
        while len(self.tally.answered) < wanted:
            self._news.clear()
            await self._news.wait()

    def _client(self) -> PolicyClient:
        client = PolicyClient(self._policy, address=self._address)
        self._clients.append(client)
        return client

    async def _ask(self, asking: _Asking, timeout: float | None, tally: Tally) -> None:
        """Asks at fixed times, whether or not answers have come, and waits for the last ones."""
        due = time.monotonic()
        async with asyncio.TaskGroup() as requests:
            while not self._stopping.is_set():
                requests.create_task(self._ask_once(asking, timeout, tally))
                due += 1 / REQUESTS_PER_SECOND
                await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _ask_once(self, asking: _Asking, timeout: float | None, tally: Tally) -> None:
        tally.requests += 1
        asked = time.monotonic()
        try:
            await asking.act(OBSERVATION, timeout=timeout)
        except SteersmanError as error:
            took = time.monotonic() - asked
            if tally is self.tally:
                tally.failures[f"{type(error).__name__}: {error}"] += 1
            elif timeout is not None and took > timeout + _PROMPT_SECONDS:
                tally.failures[f"the status came after {took:.1f} s: {error}"] += 1
        else:
            now = time.monotonic()
            tally.latencies.append(now - asked)
            tally.answered.append(now)
            self._news.set()
