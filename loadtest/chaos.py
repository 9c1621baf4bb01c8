"""What happens to the system in the scenario chaos."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import gevent

from faults import catalogue
from faults.models import write_working_bundle
from faults.system import System, running_system

_FEWER_SECONDS = 60.0


async def _swap(system: System) -> None:
    """Deploys another version, and waits until every gateway process and every replica has it."""
    system.version = system.next_version()
    system.bundle = write_working_bundle(system.folder / f"version-{system.version}", seed=1)
    await system.deploy(system.version, system.bundle)
    await system.until_healthy()


async def _scale_down_and_up(system: System) -> None:
    await system.deploy(system.version, system.bundle, replicas=1)
    await system.until(lambda deployment: deployment.replicas_ready == 1, _FEWER_SECONDS)
    await system.deploy(system.version, system.bundle)
    await system.until_healthy()


SWAP = "version swapped"
"""The event that is no fault."""

EVENTS: dict[str, Callable[[System], Awaitable[None]]] = {
    "replica killed": catalogue.FAULTS["replica-killed"].make,
    SWAP: _swap,
    "scaled down and up again": _scale_down_and_up,
    "gateway process terminated": catalogue.FAULTS["gateway-terminated"].make,
    "Serve controller killed": catalogue.FAULTS["serve-controller-killed"].make,
}


class Faults:
    """The system that faults are made in, on an event loop of its own, since users have theirs."""

    def __enter__(self) -> System:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="faults", daemon=True)
        self._thread.start()
        self._running = running_system()
        self._system: System = self._wait(self._running.__aenter__())
        system: System = self._system
        return system

    def __exit__(self, *_: object) -> None:
        try:
            self._wait(self._running.__aexit__(None, None, None))
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def make(self, work: Callable[[System], Awaitable[None]]) -> None:
        """Has something happen, and returns when the system is healthy again; other greenlets go on meanwhile.

        Raises:
            SteersmanError: If it does not become healthy in time.
        """
        self._wait(work(self._system))

    def _wait(self, work: Any) -> Any:  # noqa: ANN401 - a coroutine, and what it gives
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        while not future.done():
            gevent.sleep(0.05)
        return future.result()
