"""Traffic: which versions of a policy there are, and which of them a request goes to that names none."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from services.gateway.dispatch.probation import Probation
from services.gateway.dispatch.routes import Route, Shadow, Split, split
from services.gateway.requests.compatibility import are_compatible, describe_interface
from services.gateway.requests.versions import Version


class Traffic:
    """Follows a policy's route as far as its versions are loaded and have not been given up."""

    def __init__(self) -> None:
        self._versions: dict[int, Version] = {}
        self._route: Route | None = None
        self._route_before: Route | None = None
        self._revision = 0
        self._has_memory = False
        self._probation = Probation()
        self._split: Split | None = None
        self._left_out: dict[int, str] = {}
        self._default_version: Version | None = None

    @property
    def versions(self) -> dict[int, Version]:
        """The versions that at least one replica would compute, by number, ascending."""
        return self._versions

    @property
    def has_memory(self) -> bool:
        """Whether one of them has memory."""
        return self._has_memory

    @property
    def default_version(self) -> Version | None:
        """The loaded version that most requests go to which name none; the newest if there is no route."""
        return self._default_version

    @property
    def shadow(self) -> Shadow | None:
        """The version that gets copies of requests, if one does."""
        return self._route.shadow if self._route else None

    @property
    def serving(self) -> tuple[int, ...]:
        """The versions that requests go to now which name none."""
        return self._split.versions if self._split else ()

    @property
    def given_up(self) -> Mapping[int, str]:
        """Versions out of rotation, with the reason: each failed before its first answer."""
        return self._probation.given_up

    @property
    def left_out(self) -> Mapping[int, str]:
        """Loaded versions of the route that get nothing, with the reason: they do not go together with the others."""
        return MappingProxyType(self._left_out)

    def pick(self, point: float) -> Version:
        """Picks the version for a request that names none, among those that are loaded; there must be one.

        Args:
            point: A point in [0, 1), drawn at random or given by `routes.point_of`.
        """
        assert self._split is not None  # noqa: S101 - the caller has looked for a default version
        return self._versions[self._split.pick(point)]

    def set_route(self, route: Route | None, before: Route | None, revision: int) -> None:
        """Splits traffic from now on.

        Args:
            route: How.
            before: The route before, which holds while nothing of this one is loaded.
            revision: Of what is wanted. Whenever it changes, versions that were given up get another chance.
        """
        if revision != self._revision:
            self._revision = revision
            self._probation.pardon()
        self._route, self._route_before = route, before
        self._split_anew()

    def set_loaded(self, versions: Mapping[int, Version]) -> None:
        """Learns which versions at least one replica would compute."""
        self._versions = {number: versions[number] for number in sorted(versions)}
        self._has_memory = any(version.state for version in versions.values())
        self._probation.forget(self._versions)
        self._split_anew()

    def is_on_probation(self, version: int) -> bool:
        """Tells whether a version has never answered, and there is another one to fall back on."""
        return not self._probation.is_proven(version) and any(
            other != version and other not in self._probation.given_up for other in self._versions
        )

    def succeeded(self, version: int) -> None:
        """Takes note that a version has answered."""
        if not self._probation.is_proven(version):
            self._probation.succeeded(version)

    def failed(self, version: int, reason: str, *, lost: bool) -> bool:
        """Takes note that a version on probation has failed a batch.

        Args:
            version: The version.
            reason: Why, in words.
            lost: Whether the replica was lost with it.

        Returns:
            Whether the version is out of rotation now.
        """
        is_given_up = self._probation.failed(version, reason, lost=lost)
        if is_given_up:
            self._split_anew()
        return is_given_up

    def successor_of(self, version: int) -> Version:
        """Gives the version that most requests would go to without this one; there must be another one."""
        others = [other for other in self._probation.usable(self._versions) if other != version]
        found = split(self._route, self._route_before, others)
        assert found is not None  # noqa: S101 - the caller knows that there is another one
        return self._versions[found.main_version]

    def _split_anew(self) -> None:
        usable = self._probation.usable(self._versions)
        self._left_out = self._find_left_out(usable)
        self._split = split(self._route, self._route_before, [each for each in usable if each not in self._left_out])
        self._default_version = self._versions[self._split.main_version] if self._split else None

    def _find_left_out(self, usable: Collection[int]) -> dict[int, str]:
        """Finds the versions of the route that a request for another one of them cannot go to.

        Such a route is refused when it is asked for; but it may not be known then what all of its versions take. Of
        those that differ, all gateways follow the same one: one that the route before had, then the heaviest.
        """
        route = self._route
        if route is None or len(route.versions) == 1:
            return {}
        before = self._route_before.weights if self._route_before else {}
        loaded = [version for version in route.weights if version in usable]
        if not loaded:
            return {}
        kept = max(loaded, key=lambda version: (version in before, route.weights[version], version))
        takes = self._versions[kept].spec
        left_out = {
            version: f"it has {describe_interface(self._versions[version].spec)}, "
            f"but version {kept} of the same route has {describe_interface(takes)}"
            for version in sorted(route.versions)
            if version in usable and not are_compatible(self._versions[version].spec, takes)
        }
        shadow = route.shadow.version if route.shadow else 0
        if shadow in usable and (self._versions[shadow].state or self._versions[kept].state):
            left_out.setdefault(shadow, "a shadow would need the state of episodes that it never played")
        return left_out
