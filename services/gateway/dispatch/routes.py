"""Routes: which version a request goes to. Nothing here but arithmetic."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from steersman.errors import InvalidArgumentError

MAX_VERSIONS = 16
"""Versions that one route may name; each of them takes memory in every replica."""

DEFAULT_TOLERANCE = 1e-4
"""By how much a number of a continuous action may differ from the shadow's."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that gets a copy of some requests.

    Attributes:
        version: The version.
        share: The part of the requests that it gets, above 0 and at most 1.
        tolerance: By how much each number of a continuous action may differ.

    Raises:
        InvalidArgumentError: If one of them makes no sense.
    """

    version: int
    share: float
    tolerance: float = DEFAULT_TOLERANCE

    def __post_init__(self) -> None:
        if self.version < 1:
            raise InvalidArgumentError(f"expected a shadow version of at least 1, got {self.version}")
        if not 0 < self.share <= 1:
            raise InvalidArgumentError(f"expected a shadow share above 0 and at most 1, got {self.share:g}")
        if not 0 <= self.tolerance < math.inf:
            raise InvalidArgumentError(f"expected a tolerance of at least 0, got {self.tolerance:g}")


@dataclass(frozen=True, slots=True)
class Route:
    """How a policy's traffic is split over its versions.

    Attributes:
        weights: The versions and their weights, ascending by version; relative to each other.
        shadow: The version that gets copies, if one does.

    Raises:
        InvalidArgumentError: If there is no version, one is below 1, or a weight is no number above 0.
    """

    weights: Mapping[int, float]
    shadow: Shadow | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.weights) <= MAX_VERSIONS:
            raise InvalidArgumentError(f"expected a route to 1 to {MAX_VERSIONS} versions, got {len(self.weights)}")
        for version, weight in self.weights.items():
            if version < 1:
                raise InvalidArgumentError(f"expected a version of at least 1, got {version}")
            if not 0 < weight < math.inf:
                raise InvalidArgumentError(f"expected a weight above 0 for version {version}, got {weight:g}")
        if self.shadow is not None and self.shadow.version in self.weights:
            raise InvalidArgumentError(f"expected a shadow beside the route, got version {self.shadow.version} in both")
        object.__setattr__(self, "weights", dict(sorted(self.weights.items())))

    @property
    def versions(self) -> set[int]:
        """The versions that replicas have to hold for it, the shadow included."""
        return {*self.weights} | ({self.shadow.version} if self.shadow else set())

    @property
    def main_version(self) -> int:
        """The version with the largest weight; of several the newest."""
        return max(self.weights, key=lambda version: (self.weights[version], version))


@dataclass(frozen=True, slots=True)
class Split:
    """A route as far as it can be followed: over versions that at least one replica has loaded.

    Attributes:
        versions: The versions, ascending; never empty.
        bounds: For each of them where its part of [0, 1) ends; the last one is 1.
    """

    versions: tuple[int, ...]
    bounds: tuple[float, ...] = field(default=(1.0,))

    @property
    def main_version(self) -> int:
        """The version with the largest part; of several the newest."""
        shares = [end - start for start, end in zip((0.0, *self.bounds), self.bounds, strict=False)]
        return max(zip(shares, self.versions, strict=True))[1]

    def pick(self, point: float) -> int:
        """Picks a version.

        Args:
            point: A point in [0, 1), drawn at random or given by `point_of`.
        """
        return self.versions[bisect_right(self.bounds, point, 0, len(self.bounds) - 1)]


def split(route: Route | None, before: Route | None, loaded: Collection[int]) -> Split | None:
    """Finds out how traffic is split now.

    What is not loaded anywhere gets nothing, and the others share its part. If no version of the route is loaded, the
    route before still holds; if none of that one is either, or there is no route, the newest version gets everything.

    Args:
        route: The route, if there is one.
        before: The route before it, if there was one.
        loaded: The versions that at least one replica has loaded.

    Returns:
        The split; None if nothing is loaded.
    """
    for candidate in (route, before):
        wanted = candidate.weights if candidate else {}
        weights = {version: weight for version, weight in wanted.items() if version in loaded}
        if weights:
            # Divided by the largest first, so that the sum of huge weights is finite.
            largest = max(weights.values())
            ends = list(accumulate(weight / largest for weight in weights.values()))
            return Split(tuple(weights), (*(end / ends[-1] for end in ends[:-1]), 1.0))
    return Split((max(loaded),)) if loaded else None


def point_of(session_id: str) -> float:
    """Gives the point in [0, 1) where a session's id falls, the same at every gateway."""
    digest = hashlib.blake2b(session_id.encode(), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / 2**53
