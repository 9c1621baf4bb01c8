"""Which policies there are, and what an address means."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from services.gateway.dispatch.admission import Limits
from services.gateway.dispatch.attachment import Attachment
from services.gateway.dispatch.dispatcher import Dispatcher
from services.gateway.dispatch.gathering import Loop
from services.gateway.dispatch.routes import Route
from services.gateway.intake.resolution import Resolution
from services.gateway.requests.statistics import Statistics
from steersman.errors import NotFoundError, SteersmanError, UnavailableError
from steersman.policy_names import parse_address
from steersman.quoting import quoted


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
        self._statistics: dict[str, Statistics] = {}
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

    def statistics(self, policy: str) -> Statistics | None:
        """Gives the counts of a policy that is deployed or has, or has had, replicas."""
        found = self._statistics.get(policy)
        if found is None and (policy in self._deployed or policy in self._dispatchers):
            found = self._statistics[policy] = Statistics()
        return found

    def attach(self, attachment: Attachment) -> Dispatcher:
        """Takes a replica and gives the dispatcher that it works for."""
        dispatcher = self._dispatchers.get(attachment.policy)
        if dispatcher is None:
            statistics = self._statistics.setdefault(attachment.policy, Statistics())
            dispatcher = Dispatcher(attachment.policy, self._limits, self._loop, statistics=statistics)
            self._dispatchers[attachment.policy] = dispatcher
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
        for name in self._statistics.keys() - self._deployed.keys() - self._dispatchers.keys():
            del self._statistics[name]

    def set_routing(self, routing: Mapping[str, Routing]) -> None:
        """Learns what the addresses of policies mean; of those that are missing, the newest version."""
        self._routing = routing
        for name, dispatcher in self._dispatchers.items():
            found = routing.get(name, _NEWEST)
            dispatcher.set_route(found.route, found.before, found.revision)

    def resolve(self, address: str) -> Resolution:
        """Finds out what an address means.

        Args:
            address: "name", "name:version" or "name@alias".

        Raises:
            InvalidArgumentError: If it is no address.
            NotFoundError: If there is no such policy, version or alias.
            UnavailableError: If the policy is deployed, but no replica can answer yet.
        """
        name, number, alias = parse_address(address)
        dispatcher = self._dispatchers.get(name)
        if dispatcher is None or not dispatcher.attachments:
            raise self._nobody(name)
        by_number = bool(number)
        if alias:
            number = self._version_of(name, alias)
        if not number:
            version = dispatcher.default_version
            if version is None:
                raise UnavailableError(f"expected a loaded version of policy {name!r}, but its replicas are loading it")
            return Resolution(dispatcher, version, pinned=False)
        pinned = dispatcher.versions.get(number)
        if pinned is None:
            if number in self._routing.get(name, _NEWEST).versions:
                raise UnavailableError(f"expected version {number} of policy {name!r}, but its replicas are loading it")
            wanted = _one_of(f"the served versions of policy {name!r}", dispatcher.versions)
            raise NotFoundError(f"expected {wanted}, got {number}")
        return Resolution(dispatcher, pinned, pinned=True, by_number=by_number)

    def _version_of(self, name: str, alias: str) -> int:
        aliases = self._routing.get(name, _NEWEST).aliases
        if alias not in aliases:
            raise NotFoundError(f"expected {_one_of(f'the aliases of policy {name!r}', aliases)}, got {quoted(alias)}")
        return aliases[alias]

    def _nobody(self, name: str) -> SteersmanError:
        if name in self._deployed:
            reason = self._deployed[name] or "no replica is attached yet"
            return UnavailableError(f"policy {name!r} is deployed, but cannot answer yet: {reason}")
        if name in self._dispatchers:
            return UnavailableError(f"expected a replica of policy {name!r}, but none is attached any more")
        if not self.is_settled:
            return UnavailableError(
                f"this gateway has just started and does not know yet whether {quoted(name)} is deployed"
            )
        known = sorted({*self._dispatchers, *self._deployed})
        return NotFoundError(f"expected {_one_of('the deployed policies', known)}, got {quoted(name)}")


def _one_of(kind: str, names: Iterable[object]) -> str:
    listed = ", ".join(str(name) for name in names)
    return f"one of {kind} ({listed})" if listed else f"one of {kind}, of which there are none"
