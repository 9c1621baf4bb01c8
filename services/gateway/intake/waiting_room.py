"""Where requests wait for a policy that is deployed, but has no replica that could answer.

A policy that is scaled to zero gets a replica once somebody asks for it. Until then nothing is known of what it takes,
so requests wait here as they came, and are only read, checked and queued when a replica has attached.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import TypeVar

from services.gateway.dispatch.admission import Limits
from steersman.errors import DeadlineExceededError, ResourceExhaustedError, SteersmanError, UnavailableError
from steersman.policy_names import parse_address

_log = logging.getLogger(__name__)

_REQUEST_AGAIN_SECONDS = 0.5

_MOST_UNKNOWN = 1000
"""Policies that may be waited for while it is not known which there are. Anybody may name some."""

T = TypeVar("T")


@dataclass(slots=True)
class _Line:
    """Those who wait for one policy, in the order in which they came."""

    tickets: dict[asyncio.Future[None], int] = field(default_factory=dict)
    size_bytes: int = 0


class WaitingRoom:
    """Lets requests wait for the first replica of a policy.

    Args:
        limits: How much may wait for each policy; a request counts as one observation here.
        longest_seconds: How long a request waits at most.
        request_replica: Asks for a replica of a policy; done again and again while somebody waits for one.

    Example:
        >>> try:
        ...     resolution = catalogue.resolve("cartpole")
        ... except UnavailableError as error:
        ...     resolve = functools.partial(catalogue.resolve, "cartpole")
        ...     resolution = await room.until_served(error, "cartpole", 64, deadline, resolve)
    """

    def __init__(
        self, limits: Limits, longest_seconds: float, request_replica: Callable[[str], Awaitable[None]]
    ) -> None:
        self._limits = limits
        self._longest_seconds = longest_seconds
        self._request_replica = request_replica
        self._expected: frozenset[str] = frozenset()
        self._expects_anything = False
        self._closed = False
        self._lines: dict[str, _Line] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def waiting(self, policy: str) -> int:
        """Counts the requests that wait for a policy."""
        line = self._lines.get(policy)
        return len(line.tickets) if line is not None else 0

    def expect(self, policies: Collection[str]) -> None:
        """Learns which policies may be waited for: those that are deployed and have not failed.

        Who waits for another one is told at once what has become of it.
        """
        self._expected = frozenset() if self._closed else frozenset(policies)
        self._expects_anything = False
        for policy in list(self._lines):
            if policy in self._expected:
                self.ask_for_replica(policy)
            else:
                self.wake(policy)

    def expect_anything(self) -> None:
        """Lets requests wait for whatever they name until `expect` tells: the gateway has just started."""
        self._expects_anything = True

    def expects(self, address: str) -> bool:
        """Tells whether it makes sense to wait for what an address names.

        Raises:
            InvalidArgumentError: If it is no address.
        """
        return self._expects(parse_address(address)[0])

    def wake(self, policy: str) -> None:
        """Lets everyone who waits for a policy try again, since a replica can answer now."""
        line = self._lines.get(policy)
        for ticket in line.tickets if line is not None else ():
            if not ticket.done():
                ticket.set_result(None)

    def close(self) -> None:
        """Lets nobody wait from now on, since the gateway stops."""
        self._closed = True
        self.expect(())
        for task in self._asking.values():
            task.cancel()

    def ask_for_replica(self, policy: str) -> None:
        """Asks for a replica of a policy, and goes on asking while somebody waits here.

        To be called for what waits elsewhere: the last replica may go just when a request has been queued for it.
        """
        if policy in self._expected and policy not in self._asking:
            self._asking[policy] = asyncio.create_task(self._keep_asking(policy))

    async def until_served(
        self, error: UnavailableError, address: str, size_bytes: int, deadline: float, attempt: Callable[[], T]
    ) -> T:
        """Waits for a replica and tries again, until that works or there is no more time.

        Args:
            error: What the first attempt met with.
            address: The policy, as "name" or "name:version".
            size_bytes: Size of what waits.
            deadline: Time of `time.monotonic` after which nobody wants the answer.
            attempt: What to try.

        Returns:
            What the attempt gives.

        Raises:
            UnavailableError: The error, if it makes no sense to wait; another one, if it took too long.
            DeadlineExceededError: If the deadline passed meanwhile.
            ResourceExhaustedError: If there is no room.
            SteersmanError: What an attempt raises but `UnavailableError`.
        """
        longest = time.monotonic() + self._longest_seconds
        policy = parse_address(address)[0]
        while self._expects(policy):
            await self._wait(policy, size_bytes, deadline, longest, error)
            try:
                return attempt()
            except UnavailableError as again:
                error = again
        raise error

    def _expects(self, policy: str) -> bool:
        if self._expects_anything:
            return policy in self._lines or len(self._lines) < _MOST_UNKNOWN
        return policy in self._expected

    async def _wait(
        self, policy: str, size_bytes: int, deadline: float, longest: float, error: UnavailableError
    ) -> None:
        line = self._lines.get(policy) or _Line()
        if line.tickets and (
            len(line.tickets) >= self._limits.observations or line.size_bytes + size_bytes > self._limits.size_bytes
        ):
            raise ResourceExhaustedError(
                f"expected room to wait for the first replica of policy {policy!r}, "
                f"but {len(line.tickets)} requests of {line.size_bytes} bytes wait already",
                self._limits.pushback_milliseconds,
            )
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.tickets[ticket] = size_bytes
        line.size_bytes += size_bytes
        self._lines[policy] = line
        self.ask_for_replica(policy)
        try:
            async with asyncio.timeout(min(deadline, longest) - time.monotonic()):
                await ticket
        except TimeoutError:
            if deadline <= longest:
                raise DeadlineExceededError(
                    f"the deadline passed while the request waited for the first replica of policy {policy!r}: {error}"
                ) from None
            raise UnavailableError(
                f"no replica of policy {policy!r} could answer within {self._longest_seconds:g} s: {error}"
            ) from None
        finally:
            del line.tickets[ticket]
            line.size_bytes -= size_bytes
            if not line.tickets:
                del self._lines[policy]

    async def _keep_asking(self, policy: str) -> None:
        try:
            while True:
                try:
                    await self._request_replica(policy)
                except SteersmanError as error:
                    _log.debug("could not ask for a replica of %s: %s", policy, error)
                except Exception:  # noqa: BLE001 - those who wait still need a replica
                    _log.exception("asking for a replica of %s failed unexpectedly; asking again", policy)
                await asyncio.sleep(_REQUEST_AGAIN_SECONDS)
                if not self.waiting(policy):
                    return
        finally:
            del self._asking[policy]
