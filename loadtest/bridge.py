"""From Locust's greenlets to asyncio, where the SDK's clients are, and back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

import gevent
from gevent.event import AsyncResult

Result = TypeVar("Result")

_LAG_SECONDS = 0.05


class Bridge:
    """An event loop in a thread of its own, which greenlets of the thread that made the bridge can wait for.

    Attributes:
        lags: Seconds by which the event loop, and gevent's hub, were late for what they had to do at a time, as
            (`time.monotonic()`, seconds) each; for whoever wants to know whether the load generator keeps up.
    """

    def __init__(self) -> None:
        self.lags: deque[tuple[float, float]] = deque(maxlen=100_000)
        self._done: deque[tuple[AsyncResult, Any, BaseException | None]] = deque()
        # The only thing of gevent's that other threads may touch.
        self._wake = gevent.get_hub().loop.async_()
        self._wake.start(self._hand_over)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="load-clients", daemon=True)
        self._thread.start()
        self._loop_watch = asyncio.run_coroutine_threadsafe(self._measure_loop(), self._loop)
        self._hub_watch = gevent.spawn(self._measure_hub)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Runs a coroutine on the event loop; the greenlet waits, others go on.

        Raises:
            BaseException: Whatever the coroutine raises.
        """
        waiting = AsyncResult()

        async def carry() -> None:
            try:
                result, error = await work, None
            except BaseException as raised:  # noqa: BLE001 - it goes to whoever waits
                result, error = None, raised
            self._done.append((waiting, result, error))
            self._wake.send()

        asyncio.run_coroutine_threadsafe(carry(), self._loop)
        found: Result = waiting.get()
        return found

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Has a coroutine run on the event loop, and does not wait for it."""
        asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Stops the event loop."""
        self._hub_watch.kill()
        self._loop_watch.cancel()
        # Once more around, so that what was cancelled ends.
        self.run(asyncio.sleep(0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._wake.stop()
        self._loop.close()

    def _hand_over(self) -> None:
        while self._done:
            waiting, result, error = self._done.popleft()
            if error is None:
                waiting.set(result)
            else:
                waiting.set_exception(error)

    async def _measure_loop(self) -> None:
        while True:
            due = time.monotonic() + _LAG_SECONDS
            await asyncio.sleep(_LAG_SECONDS)
            self.lags.append((due, time.monotonic() - due))

    def _measure_hub(self) -> None:
        while True:
            due = time.monotonic() + _LAG_SECONDS
            gevent.sleep(_LAG_SECONDS)
            self.lags.append((due, time.monotonic() - due))
