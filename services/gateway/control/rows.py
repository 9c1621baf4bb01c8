"""Rows of the control plane's tables: made into plain values, and changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC
from typing import Final

from sqlalchemy import Select, select
from sqlalchemy.orm import selectinload

from services.gateway.control.desired import AuditRecord, DesiredPolicy, route_from_json, route_to_json
from services.gateway.control.models import AliasRow, AuditRow, PolicyRow, RouteRow, VersionRow
from services.gateway.control.scaling import Scale
from services.gateway.dispatch.routes import Route
from steersman.errors import NotFoundError, UnavailableError

MAX_ROUTES: Final = 50
"""Routes that are kept of a policy, to roll back to."""


def select_policies() -> Select[PolicyRow]:
    """Selects policies with all that belongs to them."""
    return select(PolicyRow).options(
        selectinload(PolicyRow.routes), selectinload(PolicyRow.versions), selectinload(PolicyRow.aliases)
    )


def desired_policy(row: PolicyRow) -> DesiredPolicy:
    """Reads a policy.

    Raises:
        UnavailableError: If the database says something that Steersman has never written.
    """
    try:
        return _read_policy(row)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise UnavailableError(
            f"expected policy {row.name!r} in the database as Steersman writes it, got something else: {error!r}"
        ) from error


def _read_policy(row: PolicyRow) -> DesiredPolicy:
    routes = [route_from_json(entry.route) for entry in row.routes[-2:]]
    route, before = routes[-1], routes[0] if len(routes) > 1 else None
    aliases = {entry.name: entry.version for entry in sorted(row.aliases, key=lambda entry: entry.name)}
    held = {*route.versions, *aliases.values(), *row.leaving}
    return DesiredPolicy(
        row.name,
        row.revision,
        Scale(row.min_replicas, row.max_replicas, row.replica_cpus, row.replica_gpus),
        route,
        before,
        aliases,
        {entry.version: entry.uri for entry in sorted(row.versions, key=_version) if entry.version in held},
    )


def _version(row: VersionRow) -> int:
    return row.version


def add_versions(row: PolicyRow, uris: Mapping[int, str]) -> None:
    """Takes note where bundles of versions lie."""
    known = {entry.version: entry for entry in row.versions}
    for version, uri in uris.items():
        if version in known:
            known[version].uri = uri
        else:
            row.versions.append(VersionRow(version=version, uri=uri))


def leave_route(row: PolicyRow, serving: Collection[int] | None) -> None:
    """Keeps what answers now, for the episodes that began with it."""
    if serving is None:
        serving = route_from_json(row.routes[-1].route).weights
    row.leaving = sorted(serving)


def follow_route(row: PolicyRow, route: Route, serving: Collection[int] | None) -> None:
    """Takes a route, unless it is the one that there is.

    Raises:
        NotFoundError: If it goes to a version that is not known.
    """
    _require_versions(row, route.versions)
    written = route_to_json(route)
    if row.routes:
        if row.routes[-1].route == written:
            return
        leave_route(row, serving)
    row.routes.append(RouteRow(route=written))
    del row.routes[:-MAX_ROUTES]


def point_alias(row: PolicyRow, alias: str, version: int) -> None:
    """Points an alias at a version; at 0, takes it away.

    Raises:
        NotFoundError: If the version, or the alias that is to be taken away, is not known.
    """
    if version:
        _require_versions(row, {version})
    entry = next((entry for entry in row.aliases if entry.name == alias), None)
    if entry is None:
        if not version:
            raise NotFoundError(f"expected an alias of policy {row.name!r}, got {alias!r}")
        row.aliases.append(AliasRow(name=alias, version=version))
    elif version:
        entry.version = version
    else:
        row.aliases.remove(entry)


def _require_versions(row: PolicyRow, versions: set[int]) -> None:
    if unknown := versions - {entry.version for entry in row.versions}:
        raise NotFoundError(f"expected a version that policy {row.name!r} has had, got {min(unknown)}")


def audit_record(row: AuditRow) -> AuditRecord:
    """Reads a record of the audit trail."""
    # SQLite forgets the time zone.
    made = row.time if row.time.tzinfo else row.time.replace(tzinfo=UTC)
    return AuditRecord(
        made, row.actor, row.action, row.policy, row.before, row.after, row.revision, row.reason, row.request_id or ""
    )
