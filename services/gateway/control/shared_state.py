"""Desired state as one gateway process knows it: read when it starts, then followed.

All that touches the database runs in threads of its own, so that the data plane never waits for it; SQLAlchemy is
loaded there too, by gateways with a control plane only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from services.gateway.control.desired import DesiredState
from steersman.errors import UnavailableError

if TYPE_CHECKING:
    from services.gateway.control.store import Store

_Result = TypeVar("_Result")

_POLL_SECONDS = 0.3
_OPEN_SECONDS = 10.0
_CALL_SECONDS = 20.0
"""Longer than the database's own limits, which say more; it is for a database that does not even keep to these."""
_THREADS = 4


class SharedState:
    """What is wanted, shared with all other gateways on the same database.

    Args:
        url: The database.
        on_change: Called with each new state.

    Attributes:
        state: What is wanted, as far as this process knows.
    """

    def __init__(self, url: str, on_change: Callable[[DesiredState], None]) -> None:
        self._url = url
        self._on_change = on_change
        self._threads = ThreadPoolExecutor(_THREADS, "database")
        self._store: Store | None = None
        self._opened = asyncio.Event()
        self._problem = "it is being opened"
        self._is_notified = True
        self.state = DesiredState()

    @property
    def known(self) -> bool:
        """Whether what is wanted has been read at all."""
        return self._opened.is_set()

    async def call(self, operation: Callable[[Store], _Result]) -> _Result:
        """Runs an operation on the database in a thread, and takes over what it has changed.

        Raises:
            UnavailableError: If the database cannot be used.
            SteersmanError: What the operation raises.
        """
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                await self._opened.wait()
        except TimeoutError:
            raise UnavailableError(f"expected the gateway's database to be open, but {self._problem}") from None
        result = await self._run(operation)
        await self._follow()
        return result

    async def step(self) -> None:
        """Opens the database if it is not open yet, and looks for changes once; for a supervisor to repeat.

        While the database cannot be used, what was known stays.

        Raises:
            UnavailableError: If the database cannot be used.
            FailedPreconditionError: If it is not one for this gateway.
        """
        try:
            if self._store is None:
                self._store = await self._in_thread(lambda: _open(self._url))
            await self._follow()
        except Exception as error:
            self._problem = str(error)
            raise
        await asyncio.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Lets the threads go once they have finished what they do."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _follow(self) -> None:
        if not self.known or await self._run(lambda store: store.revision()) != self.state.revision:
            state = await self._run(lambda store: store.state())
            if not self.known or state.revision > self.state.revision:  # else another call was quicker
                self.state = state
                self._is_notified = False
                self._opened.set()
        if not self._is_notified:
            # Whoever is notified and fails is notified again.
            self._on_change(self.state)
            self._is_notified = True

    async def _run(self, operation: Callable[[Store], _Result]) -> _Result:
        store = self._store
        assert store is not None  # noqa: S101 - the callers wait for it
        return await self._in_thread(lambda: operation(store))

    async def _in_thread(self, function: Callable[[], _Result]) -> _Result:
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                return await asyncio.get_running_loop().run_in_executor(self._threads, function)
        except TimeoutError:
            raise UnavailableError(f"the database has not answered within {_CALL_SECONDS:g} s") from None


def _open(url: str) -> Store:
    # Half a second and 40 MB that gateways without a control plane do without.
    from services.gateway.control.database import Database
    from services.gateway.control.store import Store

    database = Database(url)
    database.migrate()
    return Store(database)
