"""Which policies there are, and what an address means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from services.gateway.dispatch.admission import Limits
from services.gateway.dispatch.attachment import Attachment
from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.dispatch.gathering import Loop
from services.gateway.dispatch.routes import Route
from services.gateway.requests.versions import Version
from steersman.errors import NotFoundError, UnavailableError
from steersman.policy_names import parse_address


@dataclass(frozen=True, slots=True)
class Routing:
    """What a policy's addresses mean.

    Attributes:
        route: How traffic is split that names no version; None for all to the newest.
        before: The route before, which holds while nothing of this one is loaded.
        aliases: Versions by alias.
        versions: The versions that replicas are to hold, loaded or not yet.
        revision: Of what is wanted.
    """

    route: Route | None = None
    before: Route | None = None
    aliases: Mapping[str, int] = field(default_factory=dict)
    versions: frozenset[int] = frozenset()
    revision: int = 0


_NEWEST = Routing()


class Catalogue:
    """The policies that this gateway can route to: those with replicas, and those that are to have some.

    Args:
        limits: How much may wait for each of them.
        loop: The event loop that everything runs in.

    Attributes:
        is_settled: Whether it is known which policies are deployed. Before that nobody is told that one is not.
    """

    def __init__(self, limits: Limits, loop: Loop) -> None:
        self._limits = limits
        self._loop = loop
        self._dispatchers: dict[str, Dispatcher] = {}
        self._deployed: dict[str, str] = {}
        self._routing: Mapping[str, Routing] = {}
        self.is_settled = True

    def __iter__(self) -> Iterator[Dispatcher]:
        return (self._dispatchers[name] for name in sorted(self._dispatchers))

    @property
    def deployed(self) -> Mapping[str, str]:
        """The deployed policies, and for each what it waits for, in words."""
        return self._deployed

    def get(self, policy: str) -> Dispatcher | None:
        """Gives a policy's dispatcher, if it has, or has had, replicas."""
        return self._dispatchers.get(policy)

    def attach(self, attachment: Attachment) -> Dispatcher:
        """Takes a replica and gives the dispatcher that it works for."""
        dispatcher = self._dispatchers.get(attachment.policy)
        if dispatcher is None:
            dispatcher = self._dispatchers[attachment.policy] = Dispatcher(attachment.policy, self._limits, self._loop)
            routing = self._routing.get(attachment.policy, _NEWEST)
            dispatcher.set_route(routing.route, routing.before, routing.revision)
        dispatcher.attach(attachment)
        return dispatcher

    def set_deployed(self, policies: dict[str, str], *, forget: bool = True) -> None:
        """Learns which policies are deployed.

        Requests for a deployed policy that has no replica are told to come back; what waits for a policy that is no
        longer deployed and has no replica left fails.

        Args:
            policies: For each deployed policy what it waits for, in words.
            forget: Whether to do the latter; not while nobody knows what else runs.
        """
        self._deployed = policies
        for name, dispatcher in list(self._dispatchers.items()):
            if forget and not dispatcher.attachments and name not in policies:
                del self._dispatchers[name]
                dispatcher.fail_all(NotFoundError(f"expected a deployed policy, but {name!r} was undeployed"))

    def set_routing(self, routing: Mapping[str, Routing]) -> None:
        """Learns what the addresses of policies mean; of those that are missing, the newest version."""
        self._routing = routing
        for name, dispatcher in self._dispatchers.items():
            found = routing.get(name, _NEWEST)
            dispatcher.set_route(found.route, found.before, found.revision)

    def resolve(self, address: str) -> tuple[Dispatcher, Version, bool]:
        """Finds out what an address means.

        Args:
            address: "name", "name:version" or "name@alias".

        Returns:
            The policy's dispatcher, the version to answer, and whether the address names just that version. If it does
            not, the version is the one that most traffic goes to; `Dispatcher.pick` splits it.

        Raises:
            InvalidArgumentError: If it is no address.
            NotFoundError: If there is no such policy, version or alias.
            UnavailableError: If the policy is deployed, but no replica can answer yet.
        """
        name, number, alias = parse_address(address)
        dispatcher = self._dispatchers.get(name)
        if dispatcher is None or not dispatcher.attachments:
            raise self._nobody(name)
        if alias:
            number = self._version_of(name, alias)
        if not number:
            version = dispatcher.default_version
            if version is None:
                raise UnavailableError(f"expected a loaded version of policy {name!r}, but its replicas are loading it")
            return dispatcher, version, False
        pinned = dispatcher.versions.get(number)
        if pinned is None:
            if number in self._routing.get(name, _NEWEST).versions:
                raise UnavailableError(f"expected version {number} of policy {name!r}, but its replicas are loading it")
            raise NotFoundError(
                f"expected a served version of policy {name!r}, {_among(dispatcher.versions)}, got {number}"
            )
        return dispatcher, pinned, True

    def _version_of(self, name: str, alias: str) -> int:
        aliases = self._routing.get(name, _NEWEST).aliases
        if alias not in aliases:
            raise NotFoundError(f"expected an alias of policy {name!r}, {_among(aliases)}, got {alias!r}")
        return aliases[alias]

    def _nobody(self, name: str) -> Exception:
        if name in self._deployed:
            reason = self._deployed[name] or "no replica is attached yet"
            return UnavailableError(f"policy {name!r} is deployed, but cannot answer yet: {reason}")
        if name in self._dispatchers:
            return UnavailableError(f"expected a replica of policy {name!r}, but none is attached any more")
        if not self.is_settled:
            return UnavailableError(f"this gateway has just started and does not know yet whether {name!r} is deployed")
        known = sorted({*self._dispatchers, *self._deployed})
        return NotFoundError(f"expected a deployed policy, {_among(known)}, got {name!r}")


def _among(names: Iterable[object]) -> str:
    listed = ", ".join(str(name) for name in names)
    return f"that is, one of {listed}" if listed else "of which there is none"
