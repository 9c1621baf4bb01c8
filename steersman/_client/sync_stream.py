"""The sync stream: the async one, in a thread with an event loop."""

from __future__ import annotations

import concurrent.futures
import threading
from types import TracebackType
from typing import Self

import numpy.typing as npt

from steersman import spaces
from steersman._client import aio_stream, forks
from steersman._client.background import background
from steersman._client.connections import AioConnection
from steersman._client.exchange import Conversation
from steersman._client.messages import ActOptions, Answer
from steersman._client.options import ConnectionOptions
from steersman.errors import FailedPreconditionError

_GREEDY = ActOptions()


class ActionStream:
    """A stream to a gateway, safe to share between threads; made by `PolicyClient.stream`.

    When the gateway stops, or the connection breaks, another call is opened and what was not answered is sent again:
    inference is idempotent.

    Args:
        options: Where gateways are.
        conversation: What is said.
    """

    def __init__(self, options: ConnectionOptions, conversation: Conversation) -> None:
        self._connection = AioConnection(options)
        self._stream = aio_stream.ActionStream(self._connection, conversation)
        self._lock = threading.Lock()
        self._is_closed = False

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

        Raises:
            steersman.errors.FailedPreconditionError: If the stream was closed.
        """
        forks.check()
        with self._lock:
            if self._is_closed:
                raise FailedPreconditionError("expected an open stream, got one that was closed")
            # From here on a thread works for it, which a forked child does not have.
            forks.opened(self)
            return background.start(self._stream.request(observation, options, reward=reward, timeout=timeout))

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
            steersman.errors.SteersmanError: See there; `CancelledError` if the stream is closed meanwhile, and
                `FailedPreconditionError` if it was closed before.
        """
        return self.submit(observation, options, reward=reward, timeout=timeout).result()

    # What it was called in the first versions.
    ask = request

    def act(
        self, observation: spaces.Sample, *, reward: npt.ArrayLike | None = None, timeout: float | None = None
    ) -> spaces.Sample:
        """Asks for the greedy action, or a batch of them; see `request`."""
        return self.request(observation, reward=reward, timeout=timeout).action

    def close(self) -> None:
        """Ends the stream; what is in flight fails with `CancelledError`."""
        if forks.is_lost():
            return  # it is the parent's
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        background.start(self._shut()).result()
        forks.closed(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def _shut(self) -> None:
        await self._stream.close()
        await self._connection.close()
