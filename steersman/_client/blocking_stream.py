"""The sync stream: the async one, in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy.typing as npt

from steersman import spaces
from steersman._client.messages import ActOptions, Answer
from steersman._client.stream import ActionStream
from steersman.aio import PolicyClient

_GREEDY = ActOptions()


class BlockingActionStream:
    """A stream to a gateway; made by `PolicyClient.stream`. Safe to share between threads.

    Args:
        policy: Address of the policy.
        address: The gateway's address, or those of several.
        timeout: Seconds that a request may take, repetitions included.
        validate: Whether to check that observations lie in the policy's observation space.
    """

    def __init__(self, policy: str, address: str | Sequence[str], timeout: float, *, validate: bool = False) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="steersman-stream", daemon=True)
        self._thread.start()
        self._client, self._stream = self._run(self._open(policy, address, timeout, validate))

    def submit(
        self,
        observation: spaces.Sample,
        options: ActOptions = _GREEDY,
        *,
        reward: npt.ArrayLike | None = None,
        timeout: float | None = None,
    ) -> concurrent.futures.Future[Answer]:
        """Asks without waiting for the answer; see `request`.

        Returns:
            The answer to come.
        """
        answer = self._stream.request(observation, options, reward=reward, timeout=timeout)
        return asyncio.run_coroutine_threadsafe(answer, self._loop)

    def request(
        self,
        observation: spaces.Sample,
        options: ActOptions = _GREEDY,
        *,
        reward: npt.ArrayLike | None = None,
        timeout: float | None = None,
    ) -> Answer:
        """Asks for an action, or a batch of them; see `PolicyClient.request`.

        Raises:
            steersman.errors.SteersmanError: See there.
        """
        return self.submit(observation, options, reward=reward, timeout=timeout).result()

    def act(
        self, observation: spaces.Sample, *, reward: npt.ArrayLike | None = None, timeout: float | None = None
    ) -> spaces.Sample:
        """Asks for the greedy action, or a batch of them; see `request`."""
        return self.request(observation, reward=reward, timeout=timeout).action

    def close(self) -> None:
        """Ends the stream; what is in flight fails with `UnavailableError`."""
        if self._thread.is_alive():
            self._run(self._shut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def _open(
        self, policy: str, address: str | Sequence[str], timeout: float, validate: bool
    ) -> tuple[PolicyClient, ActionStream]:
        # Made inside the loop that they belong to.
        client = PolicyClient(policy, address=address, timeout=timeout, validate=validate)
        return client, client.stream()

    async def _shut(self) -> None:
        await self._stream.close()
        await self._client.close()

    def _run(self, work: Any) -> Any:  # noqa: ANN401 - a coroutine, and what it gives
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
