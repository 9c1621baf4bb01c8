"""Applications of others on the same Ray Serve: a policy that would take over a name or route of theirs waits. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from services.gateway.control.ray_serve.applications import Application
from services.gateway.control.ray_serve.writing import route_of


def find_conflicts(policies: Iterable[str], applications: Mapping[str, Application]) -> dict[str, str]:
    """Finds the policies that cannot be deployed without harm to an application that is not Steersman's.

    Ray Serve itself would replace the application, or give its route away, without a word.

    Args:
        policies: The policies that are wanted.
        applications: What runs.

    Returns:
        For each such policy why it waits, in words.
    """
    by_route = {found.route: found.name for found in applications.values() if found.is_foreign and found.route}
    conflicts = {}
    for policy in policies:
        route = route_of(policy)
        if policy in applications and applications[policy].is_foreign:
            conflicts[policy] = (
                f"expected the name {policy!r} to be free on Ray Serve, but an application that is not Steersman's has "
                "it; that one goes on, and the policy is deployed once the name is free"
            )
        elif route in by_route:
            conflicts[policy] = (
                f"expected the route {route} to be free on Ray Serve, but application {by_route[route]!r}, which is "
                "not Steersman's, has it; that one goes on, and the policy is deployed once the route is free"
            )
    return conflicts
