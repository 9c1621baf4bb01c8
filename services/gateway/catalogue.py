"""Which policies there are, and what an address means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from services.gateway.admission import Limits
from services.gateway.attachment import Attachment
from services.gateway.dispatcher import Dispatcher, Loop
from services.gateway.versions import Version
from steersman.errors import NotFoundError, UnavailableError
from steersman.policy_names import parse_address


class Catalogue:
    """The policies that this gateway can route to: those with replicas, and those that are to have some.

    Args:
        limits: How much may wait for each of them.
        loop: The event loop that everything runs in.
    """

    def __init__(self, limits: Limits, loop: Loop) -> None:
        self._limits = limits
        self._loop = loop
        self._dispatchers: dict[str, Dispatcher] = {}
        self._deployed: dict[str, str] = {}

    def __iter__(self) -> Iterator[Dispatcher]:
        return (self._dispatchers[name] for name in sorted(self._dispatchers))

    def get(self, policy: str) -> Dispatcher | None:
        """Gives a policy's dispatcher, if it has, or has had, replicas."""
        return self._dispatchers.get(policy)

    def attach(self, attachment: Attachment) -> Dispatcher:
        """Takes a replica and gives the dispatcher that it works for."""
        dispatcher = self._dispatchers.get(attachment.policy)
        if dispatcher is None:
            dispatcher = self._dispatchers[attachment.policy] = Dispatcher(attachment.policy, self._limits, self._loop)
        dispatcher.attach(attachment)
        return dispatcher

    def set_deployed(self, policies: dict[str, str]) -> None:
        """Learns which policies are deployed.

        Requests for a deployed policy that has no replica are told to come back; what waits for a policy that is no
        longer deployed and has no replica left fails.

        Args:
            policies: For each deployed policy what it waits for, in words.
        """
        self._deployed = policies
        for name, dispatcher in list(self._dispatchers.items()):
            if not dispatcher.attachments and name not in policies:
                del self._dispatchers[name]
                dispatcher.fail_all(NotFoundError(f"expected a deployed policy, but {name!r} was undeployed"))

    def resolve(self, address: str) -> tuple[Dispatcher, Version, bool]:
        """Finds out what an address means.

        Args:
            address: "name" or "name:version".

        Returns:
            The policy's dispatcher, the version to answer, and whether the address names just that version.

        Raises:
            InvalidArgumentError: If it is no address.
            NotFoundError: If there is no such policy or version.
            UnavailableError: If the policy is deployed, but no replica can answer yet.
        """
        name, number = parse_address(address)
        dispatcher = self._dispatchers.get(name)
        if dispatcher is None or not dispatcher.attachments:
            raise self._nobody(name)
        if not number:
            version = dispatcher.default_version
            if version is None:
                raise UnavailableError(f"expected a loaded version of policy {name!r}, but its replicas are loading it")
            return dispatcher, version, False
        pinned = dispatcher.versions.get(number)
        if pinned is None:
            raise NotFoundError(
                f"expected a served version of policy {name!r}, {_among(dispatcher.versions)}, got {number}"
            )
        return dispatcher, pinned, True

    def _nobody(self, name: str) -> Exception:
        if name in self._deployed:
            reason = self._deployed[name] or "no replica is attached yet"
            return UnavailableError(f"policy {name!r} is deployed, but cannot answer yet: {reason}")
        if name in self._dispatchers:
            return UnavailableError(f"expected a replica of policy {name!r}, but none is attached any more")
        known = sorted({*self._dispatchers, *self._deployed})
        return NotFoundError(f"expected a deployed policy, {_among(known)}, got {name!r}")


def _among(names: Iterable[object]) -> str:
    listed = ", ".join(str(name) for name in names)
    return f"that is, one of {listed}" if listed else "of which there is none"
