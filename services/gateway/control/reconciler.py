"""The reconciler: looks at what runs, over and over, and tells Ray Serve what is wanted wherever the two differ."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.gateway.control import serve_config
from services.gateway.control.ray_serve import Application, RayServe
from services.gateway.control.shared_state import SharedState
from steersman.errors import SteersmanError
from steersman.settings import Settings

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
_FIRST_RETRY_SECONDS = 0.5
_MAX_RETRY_SECONDS = 5.0
_LEASE = "reconciler"
_LEASE_SECONDS = 10.0
_EMPTY_LOOKS = 3
"""Looks in a row that have to find nothing at all before that is believed: Ray says so too while Serve's controller
restarts, and whatever is not Steersman's could not be told from what was deleted."""


class Reconciler:
    """Brings Ray Serve to what is wanted, and keeps it there. Level-triggered: it needs no history.

    Every gateway process looks; only the one that holds the lease tells Ray Serve, the whole set at once.

    Args:
        settings: For what replicas are told.
        gateways: Internal addresses of all gateways.
        ray_serve: Ray Serve.
        shared: What is wanted.
        on_look: Told after each look.

    Attributes:
        applications: What runs, as of the last look that succeeded.
        problem: What keeps it from its work, in words; empty if nothing does.
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
        self._changed = asyncio.Event()
        self._adopted = False
        self._empty_looks = 0
        self._attempts = 0
        self._retry_at = 0.0
        self._trouble = ""
        self._looked = False
        self.applications: Mapping[str, Application] = {}

    @property
    def problem(self) -> str:
        """What keeps it from its work, in words; empty if nothing does."""
        if not self._trouble:
            return ""
        return f"{self._trouble}; next try in {max(0.0, self._retry_at - time.monotonic()):.0f} s"

    @property
    def has_looked(self) -> bool:
        """Whether the last look succeeded."""
        return self._looked and not self._trouble

    def wake(self) -> None:
        """Has it look at once, since something has changed."""
        self._changed.set()

    def is_as_wanted(self, policy: str) -> bool:
        """Tells whether Ray Serve has been told all that is wanted of a policy."""
        wanted = self._shared.state.policies.get(policy)
        found = self.applications.get(policy)
        if wanted is None or found is None:
            return wanted is None and found is None
        if found["status"] == "DELETING" or not found["deployed_app_config"]:
            return False
        return serve_config.covers(
            found["deployed_app_config"], serve_config.application(self._settings, self._gateways, wanted)
        )

    async def run(self) -> None:
        """Does its work until cancelled."""
        while True:
            self._changed.clear()
            try:
                await self._look()
                self._trouble = ""
            except SteersmanError as error:
                self._attempts += 1
                if not self._trouble:
                    _log.warning("%s", error)
                self._trouble = str(error)
            delay = _retry_seconds(self._attempts) if self._attempts else _LOOK_SECONDS
            self._retry_at = time.monotonic() + delay
            self._on_look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._changed.wait()

    async def _look(self) -> None:
        applications = await self._ray_serve.applications()
        if not applications and self.applications and self._empty_looks < _EMPTY_LOOKS:
            self._empty_looks += 1
            return
        self._empty_looks = 0
        self._looked = True
        self.applications = applications
        if not self._shared.known:
            return
        await self._adopt()
        if all(self.is_as_wanted(name) for name in {*self._shared.state.policies, *self._policies()}):
            self._attempts = 0
            return
        if not await self._shared.call(lambda store: store.acquire_lease(_LEASE, self._holder, _LEASE_SECONDS)):
            return  # another process is at it, or has just died; the next look tells
        # Grows also if Ray Serve accepts what it is told and does something else.
        self._attempts += 1
        prolonging = asyncio.create_task(self._prolong())
        try:
            await self._ray_serve.replace(self._wanted())
        finally:
            prolonging.cancel()
            await self._shared.call(lambda store: store.release_lease(_LEASE, self._holder))
        self.applications = await self._ray_serve.applications()

    def _wanted(self) -> list[Application]:
        """Lists what there shall be: everything that is wanted, and what is not Steersman's as it is."""
        others = [
            found["deployed_app_config"]
            for name, found in self.applications.items()
            if found["status"] != "DELETING"
            and found["deployed_app_config"]
            and not serve_config.is_policy(found["deployed_app_config"])
            and name not in self._shared.state.policies
        ]
        return others + [
            serve_config.application(self._settings, self._gateways, policy)
            for policy in self._shared.state.policies.values()
        ]

    def _policies(self) -> dict[str, dict[str, Any]]:
        """Gives the configs of the policies that run and are to stay, as far as Ray Serve knows."""
        return {
            name: found["deployed_app_config"]
            for name, found in self.applications.items()
            if found["status"] != "DELETING" and serve_config.is_policy(found["deployed_app_config"])
        }

    async def _adopt(self) -> None:
        """Takes over what ran before there was a database, so that a new one does not end it."""
        if self._adopted:
            return
        if not await self._shared.call(lambda store: store.adopted()):
            if not await self._shared.call(lambda store: store.acquire_lease(_LEASE, self._holder, _LEASE_SECONDS)):
                return
            found = {}
            for name, config in self._policies().items():
                try:
                    found[name] = serve_config.adoptable(config)
                except (LookupError, TypeError, ValueError) as error:
                    _log.warning("cannot adopt %s, which runs on Ray Serve: %s", name, error)
            await self._shared.call(lambda store: store.adopt(found))
        self._adopted = True

    async def _prolong(self) -> None:
        while True:
            await asyncio.sleep(_LEASE_SECONDS / 3)
            with contextlib.suppress(SteersmanError):
                await self._shared.call(lambda store: store.acquire_lease(_LEASE, self._holder, _LEASE_SECONDS))


def _retry_seconds(attempts: int) -> float:
    # Jitter, so that gateways which lost Ray together do not come back together.
    jitter = random.uniform(0.5, 1.0)  # noqa: S311 - no secret
    longest: float = min(_FIRST_RETRY_SECONDS * 2 ** min(attempts, 10), _MAX_RETRY_SECONDS)
    return longest * jitter
