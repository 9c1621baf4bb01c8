"""The reconciler: looks at what runs, over and over, and submits what is wanted to Ray Serve where the two differ."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence

from services.common.supervision import pause_seconds
from services.gateway.control.conflicts import find_conflicts
from services.gateway.control.ray_serve.applications import Application, ApplicationConfig, Instance
from services.gateway.control.ray_serve.client import RayServe
from services.gateway.control.ray_serve.writing import covers, read_running_policy, write_application
from services.gateway.control.shared_state import SharedState
from steersman.errors import InvalidArgumentError, SteersmanError, UnavailableError
from steersman.settings import Settings

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_LEASE = "reconciler"
_LEASE_SECONDS = 10.0
_EMPTY_LOOKS = 3
"""Looks in a row that have to find nothing at all before that is believed: Ray says so too while Serve's controller
restarts, and then nobody could say which applications of others were still there."""


class Reconciler:
    """Brings Ray Serve to what is wanted, and keeps it there. Level-triggered: it needs no history.

    Every gateway process looks; only the one that holds the lease submits, the whole set at once.

    Args:
        settings: For the arguments of replicas.
        gateways: Internal addresses of all gateways.
        ray_serve: Ray Serve.
        shared: What is wanted.
        on_look: Called after each look, whether it succeeded or not.

    Attributes:
        applications: What runs, as of the last look that succeeded.
        has_looked: Whether the last look succeeded.
        changed: Set when something has changed, so that it looks at once.
    """

    def __init__(
        self,
        settings: Settings,
        gateways: Sequence[str],
        ray_serve: RayServe,
        shared: SharedState,
        on_look: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._gateways = gateways
        self._ray_serve = ray_serve
        self._shared = shared
        self._on_look = on_look
        self._holder = secrets.token_hex(8)
        self._adopted = False
        self._empty_looks = 0
        self._submissions = 0
        self._due = 0.0
        self.changed = asyncio.Event()
        self.has_looked = False
        self.applications: Mapping[str, Application] = {}

    def conflicts(self) -> dict[str, str]:
        """Gives the wanted policies that wait for an application of others, and why, as of the last look."""
        return find_conflicts(self._shared.state.policies, self.applications)

    def is_as_wanted(self, policy: str) -> bool:
        """Tells whether all that is wanted of a policy has been submitted."""
        wanted = self._shared.state.policies.get(policy)
        found = self.applications.get(policy)
        if wanted is None or found is None:
            return wanted is None and found is None
        if not found.is_policy or found.config is None:
            return False
        return covers(found.config, write_application(self._settings, self._gateways, wanted))

    async def step(self) -> None:
        """Waits until it is time or something has changed, then looks once, and acts on what it sees.

        Raises:
            SteersmanError: What keeps it from its work.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._due - time.monotonic())):
                await self.changed.wait()
        self.changed.clear()
        # After an error it is for the supervisor to pause.
        self._due = 0.0
        self.has_looked = False
        try:
            await self._look()
            self._due = time.monotonic() + (pause_seconds(self._submissions) if self._submissions else _LOOK_SECONDS)
        finally:
            self._on_look()

    async def _look(self) -> None:
        instance = await self._ray_serve.instance()
        if self._seems_to_restart(instance):
            return
        self.has_looked = True
        self.applications = instance.applications
        if not self._shared.known:
            return
        await self._adopt()
        if self._all_as_wanted():
            self._submissions = 0
            return
        if not await self._shared.call(lambda store: store.leases.acquire(_LEASE, self._holder, _LEASE_SECONDS)):
            return  # another process is at it, or has just died; the next look shows
        # Grows also if Ray Serve accepts what is submitted and does something else.
        self._submissions += 1
        prolonging = asyncio.create_task(self._prolong())
        try:
            await self._submit()
        finally:
            prolonging.cancel()
            await self._shared.call(lambda store: store.leases.release(_LEASE, self._holder))

    async def _submit(self) -> None:
        """Submits what is wanted, as holder of the lease.

        Ray Serve takes only the whole set, and deletes what is not in it. So what others have is read again at the last
        moment; what somebody declares between that and the call is lost, which no client of Ray Serve's can help.
        """
        instance = await self._ray_serve.instance()
        if self._seems_to_restart(instance):
            return
        self.applications = instance.applications
        if self._all_as_wanted():
            return
        await self._ray_serve.replace(self._wanted(), instance.target_capacity)
        self.applications = (await self._ray_serve.instance()).applications

    def _seems_to_restart(self, instance: Instance) -> bool:
        """Tells whether nothing runs all of a sudden, which is not believed at once."""
        if instance.applications or not self.applications or self._empty_looks >= _EMPTY_LOOKS:
            self._empty_looks = 0
            return False
        self._empty_looks += 1
        return True

    def _all_as_wanted(self) -> bool:
        """Tells whether there is nothing to submit."""
        conflicts = self.conflicts()
        wanted = self._shared.state.policies.keys() - conflicts.keys()
        running = {name for name, found in self.applications.items() if found.is_policy}
        return all(self.is_as_wanted(name) for name in wanted) and running <= wanted

    def _wanted(self) -> list[ApplicationConfig]:
        """Lists what there shall be: all that is wanted and can be, and what others have declared as it is.

        Raises:
            UnavailableError: If Ray Serve does not say what another's application was declared with.
        """
        conflicts = self.conflicts()
        wanted = [
            write_application(self._settings, self._gateways, policy)
            for name, policy in self._shared.state.policies.items()
            if name not in conflicts
        ]
        for found in self.applications.values():
            if found.is_unclear:
                raise UnavailableError(
                    f"expected the config of application {found.name!r}, but Ray Serve does not give it; nothing can "
                    "be changed without deleting that one, which may be somebody else's"
                )
        others = [
            found.config
            for found in self.applications.values()
            if found.is_foreign and found.is_declared and found.config is not None
        ]
        return others + wanted

    async def _adopt(self) -> None:
        """Takes over what ran before there was a database, so that a new one does not end it."""
        if self._adopted:
            return
        if not await self._shared.call(lambda store: store.adopted()):
            if not await self._shared.call(lambda store: store.leases.acquire(_LEASE, self._holder, _LEASE_SECONDS)):
                return
            found = {}
            for name, application in self.applications.items():
                if application.is_policy and application.config is not None:
                    try:
                        found[name] = read_running_policy(application.config)
                    except InvalidArgumentError as error:
                        _log.warning("cannot adopt %s, which runs on Ray Serve: %s", name, error)
            await self._shared.call(lambda store: store.adopt(found))
        self._adopted = True

    async def _prolong(self) -> None:
        while True:
            await asyncio.sleep(_LEASE_SECONDS / 3)
            try:
                await self._shared.call(lambda store: store.leases.acquire(_LEASE, self._holder, _LEASE_SECONDS))
            except SteersmanError as error:
                _log.warning("the lease may be lost: %s", error)
            except Exception:  # noqa: BLE001 - the next time may succeed, and meanwhile the work goes on
                _log.exception("prolonging the lease failed unexpectedly")
