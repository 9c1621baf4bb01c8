"""Desired state in the database: each method is one transaction. All of them block; call them in a thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Select, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, selectinload

from services.gateway.control.database import Database
from services.gateway.control.desired import (
    AuditRecord,
    Change,
    DesiredPolicy,
    DesiredState,
    RunningPolicy,
    describe,
    route_from_json,
    route_to_json,
)
from services.gateway.control.models import AliasRow, AuditRow, LeaseRow, PolicyRow, RouteRow, StateRow, VersionRow
from services.gateway.control.scaling import Scale
from services.gateway.dispatch.routes import Route
from steersman.errors import AbortedError, FailedPreconditionError, NotFoundError, UnavailableError

MAX_ROUTES: Final = 50
"""Routes that are kept of a policy, to roll back to."""

Resize = Callable[[Scale | None], Scale]


@dataclass(frozen=True, slots=True)
class _Changing:
    """A change in the middle of its transaction.

    Attributes:
        session: The transaction.
        change: Who changes what.
        row: The policy; None if it is not deployed.
        revision: The revision that this change makes.
        before: What was wanted before.
    """

    session: Session
    change: Change
    row: PolicyRow | None
    revision: int
    before: DesiredPolicy | None

    def deployed(self) -> PolicyRow:
        """Gives the policy.

        Raises:
            NotFoundError: If it is not deployed.
        """
        if self.row is None:
            raise NotFoundError(f"expected a deployed policy, got {self.change.policy!r}")
        return self.row

    def finish(self, action: str, row: PolicyRow) -> DesiredPolicy:
        """Gives the policy its new revision and writes the audit record."""
        row.revision = self.revision
        after = _desired(row)
        self.record(action, describe(after))
        return after

    def record(self, action: str, after: str) -> None:
        """Writes the audit record."""
        self.session.add(
            AuditRow(
                time=datetime.now(UTC),
                actor=self.change.actor,
                action=action,
                policy=self.change.policy,
                before=describe(self.before) if self.before else "",
                after=after,
                revision=self.revision,
                reason=self.change.reason,
            )
        )


class Store:
    """What is wanted, and who changed it.

    Args:
        database: Where it is kept; migrated.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def revision(self) -> int:
        """Gives the revision of the latest change; cheap enough to ask often.

        Raises:
            UnavailableError: If the database cannot be used, as with all methods.
        """
        with self._database.reading() as session:
            return session.execute(select(StateRow.revision)).scalar_one()

    def state(self) -> DesiredState:
        """Reads what is wanted of all policies."""
        with self._database.reading() as session:
            revision = session.execute(select(StateRow.revision)).scalar_one()
            rows = session.scalars(_policies().order_by(PolicyRow.name))
            return DesiredState(revision, {row.name: _desired(row) for row in rows})

    def deploy(self, change: Change, route: Route, resize: Resize, uris: Mapping[int, str]) -> DesiredPolicy:
        """Serves a policy, or serves it otherwise.

        Args:
            change: Who changes which policy.
            route: Its route from now on.
            resize: Gives its scale from now on for the one that it has, or for None.
            uris: Where bundles lie; each version of the route that the policy has not had yet must be among them.

        Raises:
            AbortedError: If the policy is not at the expected revision, as with all changes.
            NotFoundError: If a version is unknown.
        """
        with self._changing(change) as changing:
            before, row = changing.before, changing.row
            if row is None:
                row = PolicyRow(name=change.policy, leaving=[])
                changing.session.add(row)
            scale = resize(before.scale if before else None)
            row.min_replicas, row.max_replicas = scale.min_replicas, scale.max_replicas
            row.replica_cpus, row.replica_gpus = scale.replica_cpus, scale.replica_gpus
            _add_versions(row, uris)
            _follow(row, route, change.serving)
            return changing.finish("deploy", row)

    def undeploy(self, change: Change) -> None:
        """Stops serving a policy.

        Raises:
            NotFoundError: If it is not deployed, as with all other changes.
        """
        with self._changing(change) as changing:
            changing.session.delete(changing.deployed())
            changing.record("undeploy", "")

    def set_route(self, change: Change, route: Route, uris: Mapping[int, str]) -> DesiredPolicy:
        """Splits a policy's traffic; see `deploy` for the arguments."""
        with self._changing(change) as changing:
            row = changing.deployed()
            _add_versions(row, uris)
            _follow(row, route, change.serving)
            return changing.finish("set_route", row)

    def set_alias(self, change: Change, alias: str, version: int, uris: Mapping[int, str]) -> DesiredPolicy:
        """Points an alias at a version; at 0, takes it away."""
        with self._changing(change) as changing:
            row = changing.deployed()
            _add_versions(row, uris)
            _point(row, alias, version)
            return changing.finish("set_alias", row)

    def promote(
        self, change: Change, alias: str, version: int, from_alias: str, uris: Mapping[int, str]
    ) -> DesiredPolicy:
        """Moves an alias and all traffic to a version, or to another alias's.

        Raises:
            NotFoundError: If there is no such other alias.
        """
        with self._changing(change) as changing:
            row = changing.deployed()
            _add_versions(row, uris)
            if from_alias:
                version = _desired(row).aliases.get(from_alias, 0)
                if not version:
                    raise NotFoundError(f"expected an alias of policy {change.policy!r}, got {from_alias!r}")
            _point(row, alias, version)
            _follow(row, Route({version: 1.0}), change.serving)
            return changing.finish("promote", row)

    def rollback(self, change: Change) -> DesiredPolicy:
        """Goes back to the route before.

        Raises:
            FailedPreconditionError: If there was none.
        """
        with self._changing(change) as changing:
            row = changing.deployed()
            if len(row.routes) == 1:
                raise FailedPreconditionError(f"expected a route to go back to, but policy {change.policy!r} had none")
            _leave(row, change.serving)
            del row.routes[-1]
            return changing.finish("rollback", row)

    def uris(self, policy: str) -> dict[int, str]:
        """Tells where the bundles lie of all versions that a policy has had since it was deployed."""
        with self._database.reading() as session:
            rows = session.scalars(select(VersionRow).where(VersionRow.policy == policy))
            return {row.version: row.uri for row in rows}

    def audit(self, policy: str, limit: int) -> list[AuditRecord]:
        """Lists changes, the latest first.

        Args:
            policy: The policy; empty for all.
            limit: At most so many.
        """
        wanted = select(AuditRow).order_by(AuditRow.id.desc()).limit(limit)
        if policy:
            wanted = wanted.where(AuditRow.policy == policy)
        with self._database.reading() as session:
            return [_read_audit(row) for row in session.scalars(wanted)]

    def adopted(self) -> bool:
        """Tells whether what ran before there was this database has been taken over, or there is nothing to take."""
        with self._database.reading() as session:
            return session.execute(select(StateRow.adopted)).scalar_one()

    def adopt(self, running: Mapping[str, RunningPolicy]) -> None:
        """Takes over what ran before there was this database. For one process at a time.

        Args:
            running: What runs, by policy.
        """
        deployed = self.state().policies
        for policy, found in running.items():
            if policy not in deployed:
                change = Change("adopted from Ray Serve", policy)
                route, uris = Route({found.version: 1.0}), {found.version: found.uri}
                self.deploy(change, route, lambda _, scale=found.scale: scale, uris)  # type: ignore[misc]
        # Last, so that whoever is killed before leaves it to the next one.
        with self._database.writing() as session:
            session.execute(update(StateRow).values(adopted=True))

    def acquire_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Takes a lease, or prolongs it.

        Args:
            name: What for.
            holder: Who; different for every process.
            seconds: After so long without another call it is anybody's.

        Returns:
            Whether the holder has it.
        """
        now = time.time()
        with self._database.writing() as session:
            row = session.get(LeaseRow, name, with_for_update=True)
            if row is None:
                try:
                    with session.begin_nested():
                        session.add(LeaseRow(name=name, holder=holder, expires=now + seconds))
                except IntegrityError:
                    return False  # another process was quicker
                return True
            # One that is valid for much longer than anybody asks for was made before a clock was set back.
            if row.holder != holder and now < row.expires < now + 10 * seconds:
                return False
            row.holder, row.expires = holder, now + seconds
            return True

    def release_lease(self, name: str, holder: str) -> None:
        """Gives a lease back, if it is still the holder's."""
        with self._database.writing() as session:
            session.execute(
                update(LeaseRow).where(LeaseRow.name == name, LeaseRow.holder == holder).values(expires=0.0)
            )

    @contextmanager
    def _changing(self, change: Change) -> Iterator[_Changing]:
        """Opens the transaction of a change; whoever is in it has the database for themselves.

        Raises:
            AbortedError: If the policy is not at the expected revision.
        """
        with self._database.writing() as session:
            # Locks the row also where writers do not exclude each other from the start.
            session.execute(update(StateRow).values(revision=StateRow.revision + 1))
            revision = session.execute(select(StateRow.revision)).scalar_one()
            row = session.scalars(_policies().where(PolicyRow.name == change.policy)).one_or_none()
            found = row.revision if row else 0
            if change.expected_revision and found != change.expected_revision:
                raise AbortedError(
                    f"expected policy {change.policy!r} at revision {change.expected_revision}, but it is "
                    + (f"at {found}: somebody else has changed it" if found else "not deployed any more")
                )
            yield _Changing(session, change, row, revision, _desired(row) if row else None)


def _policies() -> Select[PolicyRow]:
    return select(PolicyRow).options(
        selectinload(PolicyRow.routes), selectinload(PolicyRow.versions), selectinload(PolicyRow.aliases)
    )


def _desired(row: PolicyRow) -> DesiredPolicy:
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


def _add_versions(row: PolicyRow, uris: Mapping[int, str]) -> None:
    known = {entry.version: entry for entry in row.versions}
    for version, uri in uris.items():
        if version in known:
            known[version].uri = uri
        else:
            row.versions.append(VersionRow(version=version, uri=uri))


def _leave(row: PolicyRow, serving: Collection[int] | None) -> None:
    """Keeps what answers now, for the episodes that began with it."""
    if serving is None:
        serving = route_from_json(row.routes[-1].route).weights
    row.leaving = sorted(serving)


def _follow(row: PolicyRow, route: Route, serving: Collection[int] | None) -> None:
    """Takes a route, unless it is the one that there is.

    Raises:
        NotFoundError: If it goes to a version that is not known.
    """
    _require_versions(row, route.versions)
    written = route_to_json(route)
    if row.routes:
        if row.routes[-1].route == written:
            return
        _leave(row, serving)
    row.routes.append(RouteRow(route=written))
    del row.routes[:-MAX_ROUTES]


def _point(row: PolicyRow, alias: str, version: int) -> None:
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


def _read_audit(row: AuditRow) -> AuditRecord:
    # SQLite forgets the time zone.
    made = row.time if row.time.tzinfo else row.time.replace(tzinfo=UTC)
    return AuditRecord(made, row.actor, row.action, row.policy, row.before, row.after, row.revision, row.reason)
