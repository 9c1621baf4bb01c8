"""Tells the model registry of aliases, so that it shows what is served; the database is what counts."""

from __future__ import annotations

import asyncio
import logging

from services.common.supervision import pause_seconds
from services.gateway.control.registry import Registry
from steersman.errors import SteersmanError, UnavailableError

_log = logging.getLogger(__name__)


class AliasMirror:
    """Carries aliases over as soon as the registry can be reached; of several changes of one alias the last.

    What has not been carried over when the process ends is not any more.

    Args:
        registry: The registry.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._pending: dict[tuple[str, str], int] = {}
        self._is_pending = asyncio.Event()
        self._failures = 0

    def set(self, policy: str, alias: str, version: int) -> None:
        """Takes note that an alias names a version, or with 0 that it is gone."""
        # At the end, also where it was pending before: the others have waited longer.
        self._pending.pop((policy, alias), None)
        self._pending[policy, alias] = version
        self._is_pending.set()

    async def step(self) -> None:
        """Waits until there is something to carry over, then tries that once; for a supervisor to repeat."""
        await self._is_pending.wait()
        (policy, alias), version = next(iter(self._pending.items()))
        try:
            await self._registry.set_alias(policy, alias, version)
        except UnavailableError as error:
            # No problem of the gateway's: everything works without.
            if not self._failures:
                _log.warning("alias %s@%s is not in the registry yet: %s", policy, alias, error)
            self._failures += 1
            # It goes behind the others, which it may not hold up.
            if self._pending.get((policy, alias)) == version:
                self._pending[policy, alias] = self._pending.pop((policy, alias))
            await asyncio.sleep(pause_seconds(self._failures))
            return
        except SteersmanError as error:
            _log.warning("alias %s@%s cannot be in the registry: %s", policy, alias, error)
        self._failures = 0
        if self._pending.get((policy, alias)) == version:
            del self._pending[policy, alias]
        if not self._pending:
            self._is_pending.clear()
