"""What is wanted: plain values, which the data plane may read without a database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any

from services.gateway.control.scaling import Scale
from services.gateway.dispatch.routes import Route, Shadow

NAME_LENGTH = 64
"""The most characters of a policy's or an alias's name."""


@dataclass(frozen=True, slots=True)
class DesiredPolicy:
    """What is wanted of one policy.

    Attributes:
        name: The policy.
        revision: Counts changes; no two states of a policy have the same, also not across an undeploy.
        scale: How far it may be scaled, and what its replicas reserve.
        route: How its traffic is split.
        before: The route before, which versions that are not loaded yet fall back to, and Rollback goes to.
        aliases: Versions by alias.
        uris: For each version that replicas are to hold where its bundle lies.
    """

    name: str
    revision: int
    scale: Scale
    route: Route
    before: Route | None
    aliases: Mapping[str, int]
    uris: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What is wanted of all policies.

    Attributes:
        revision: Of the latest change.
        policies: By name, in order.
    """

    revision: int = 0
    policies: Mapping[str, DesiredPolicy] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class RunningPolicy:
    """A policy that runs on Ray Serve without being in the database.

    Attributes:
        version: The version that most traffic goes to.
        uri: Where that one's bundle lies.
        scale: How far it may be scaled.
    """

    version: int
    uri: str
    scale: Scale


@dataclass(frozen=True, slots=True)
class Change:
    """Who changes a policy, and what they have seen of it.

    Attributes:
        actor: Who, in words.
        policy: The policy.
        expected_revision: The revision that the change is based on; 0 for any.
        serving: The versions that its traffic goes to now, as far as is known; None for all of its route. One that
            could never be loaded is not among them, and must not keep replicas from loading others.
        reason: Why, for the audit trail.
        request_id: What the caller calls the request by, unique among those for the policy, so that one whose answer
            was lost can be sent again without changing anything twice; empty for none.
        fingerprint: A digest of the request, to notice another one with the same id.
    """

    actor: str
    policy: str
    expected_revision: int = 0
    serving: frozenset[int] | None = None
    reason: str = ""
    request_id: str = ""
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One change that was made.

    Attributes:
        time: When.
        actor: Who.
        action: What, such as "deploy".
        policy: The policy.
        before: What was wanted before, as JSON; empty if it was not deployed.
        after: What is wanted since, as JSON; empty if it is not deployed any more.
        revision: The policy's revision since.
        reason: Why; empty if nobody said so.
        request_id: What the caller called the request by; empty for none.
    """

    time: datetime
    actor: str
    action: str
    policy: str
    before: str
    after: str
    revision: int
    reason: str
    request_id: str = ""


def route_to_json(route: Route) -> dict[str, Any]:
    """Writes a route as JSON values."""
    value: dict[str, Any] = {"weights": {str(version): weight for version, weight in route.weights.items()}}
    if (shadow := route.shadow) is not None:
        value["shadow"] = {"version": shadow.version, "share": shadow.share, "tolerance": shadow.tolerance}
    return value


def route_from_json(value: Mapping[str, Any]) -> Route:
    """Reads what `route_to_json` wrote."""
    shadow = Shadow(**value["shadow"]) if "shadow" in value else None
    return Route({int(version): weight for version, weight in value["weights"].items()}, shadow)


def describe(policy: DesiredPolicy) -> str:
    """Writes what is wanted of a policy as JSON, for the audit trail."""
    scale = policy.scale
    return json.dumps(
        {
            "route": route_to_json(policy.route),
            "aliases": dict(policy.aliases),
            "replicas": [scale.min_replicas, scale.max_replicas],
            "replica_cpus": scale.replica_cpus,
            "replica_gpus": scale.replica_gpus,
        }
    )


def read_description(name: str, revision: int, text: str, uris: Mapping[int, str]) -> DesiredPolicy:
    """Reads what `describe` wrote, as far as that goes: not the route before.

    Args:
        name: The policy.
        revision: Its revision then.
        text: What was written.
        uris: Where bundles lie; empty for the versions that are not among them.
    """
    value = json.loads(text)
    route, aliases = route_from_json(value["route"]), value["aliases"]
    fewest, most = value["replicas"]
    scale = Scale(fewest, most, value["replica_cpus"], value["replica_gpus"])
    held = sorted({*route.versions, *aliases.values()})
    return DesiredPolicy(name, revision, scale, route, None, aliases, {each: uris.get(each, "") for each in held})
