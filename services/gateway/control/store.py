"""Desired state in the database: each method is one transaction. All of them block; call them in a thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from services.gateway.control.database import Database
from services.gateway.control.desired import (
    AuditRecord,
    Change,
    DesiredPolicy,
    DesiredState,
    RunningPolicy,
    describe,
    read_description,
)
from services.gateway.control.leases import Leases
from services.gateway.control.models import AuditRow, PolicyRow, StateRow, VersionRow
from services.gateway.control.rows import (
    add_versions,
    audit_record,
    desired_policy,
    follow_route,
    leave_route,
    point_alias,
    select_policies,
)
from services.gateway.control.scaling import Scale
from services.gateway.dispatch.routes import Route
from steersman.errors import AbortedError, FailedPreconditionError, InvalidArgumentError, NotFoundError

Resize = Callable[[Scale | None], Scale]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a change has made of a policy.

    Attributes:
        policy: What is wanted since; None if it is not deployed any more.
    """

    policy: DesiredPolicy | None


@dataclass(frozen=True, slots=True)
class _Changing:
    """A change in the middle of its transaction.

    Attributes:
        session: The transaction.
        change: Who changes what.
        row: The policy; None if it is not deployed.
        scale: Its scale before; likewise.
    """

    session: Session
    change: Change
    row: PolicyRow | None
    scale: Scale | None

    def deployed(self) -> PolicyRow:
        """Gives the policy.

        Raises:
            NotFoundError: If it is not deployed.
        """
        if self.row is None:
            raise NotFoundError(f"expected a deployed policy, got {self.change.policy!r}")
        return self.row


class Store:
    """What is wanted, and who changed it.

    Args:
        database: Where it is kept; migrated.

    Attributes:
        leases: Which process may do what only one may do at a time.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.leases = Leases(database)

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
            rows = session.scalars(select_policies().order_by(PolicyRow.name))
            return DesiredState(revision, {row.name: desired_policy(row) for row in rows})

    def outcome(self, change: Change) -> Outcome | None:
        """Gives what a request has changed already, if it is one that is sent again; see `Change.request_id`.

        Raises:
            InvalidArgumentError: If it was another request that had the same id.
        """
        with self._database.reading() as session:
            return _outcome(session, change)

    def deploy(self, change: Change, route: Route, resize: Resize, uris: Mapping[int, str]) -> DesiredPolicy:
        """Serves a policy, or serves it otherwise.

        Args:
            change: Who changes which policy.
            route: Its route from now on.
            resize: Gives its scale from now on for the one that it has, or for None.
            uris: Where bundles lie; each version of the route that the policy has not had yet must be among them.

        Returns:
            What is wanted since, as with all changes. Of a request that is sent again, what it made the first time.

        Raises:
            AbortedError: If the policy is not at the expected revision, as with all changes.
            InvalidArgumentError: If another request had the same id, as with all changes.
            NotFoundError: If a version is unknown.
        """

        def apply(changing: _Changing) -> PolicyRow:
            row = changing.row
            if row is None:
                row = PolicyRow(name=change.policy, leaving=[])
                changing.session.add(row)
            scale = resize(changing.scale)
            row.min_replicas, row.max_replicas = scale.min_replicas, scale.max_replicas
            row.replica_cpus, row.replica_gpus = scale.replica_cpus, scale.replica_gpus
            add_versions(row, uris)
            follow_route(row, route, change.serving)
            return row

        return self._change("deploy", change, apply)

    def undeploy(self, change: Change) -> None:
        """Stops serving a policy.

        Raises:
            NotFoundError: If it is not deployed, as with all other changes.
        """

        def apply(changing: _Changing) -> None:
            changing.session.delete(changing.deployed())

        self._apply("undeploy", change, apply)

    def set_route(self, change: Change, route: Route, uris: Mapping[int, str]) -> DesiredPolicy:
        """Splits a policy's traffic; see `deploy` for the arguments."""

        def apply(changing: _Changing) -> PolicyRow:
            row = changing.deployed()
            add_versions(row, uris)
            follow_route(row, route, change.serving)
            return row

        return self._change("set_route", change, apply)

    def set_alias(self, change: Change, alias: str, version: int, uris: Mapping[int, str]) -> DesiredPolicy:
        """Points an alias at a version; at 0, takes it away."""

        def apply(changing: _Changing) -> PolicyRow:
            row = changing.deployed()
            add_versions(row, uris)
            point_alias(row, alias, version)
            return row

        return self._change("set_alias", change, apply)

    def promote(
        self, change: Change, alias: str, version: int, from_alias: str, uris: Mapping[int, str]
    ) -> DesiredPolicy:
        """Moves an alias and all traffic to a version, or to another alias's.

        Raises:
            NotFoundError: If there is no such other alias.
        """

        def apply(changing: _Changing) -> PolicyRow:
            row = changing.deployed()
            add_versions(row, uris)
            wanted = version
            if from_alias:
                wanted = desired_policy(row).aliases.get(from_alias, 0)
                if not wanted:
                    raise NotFoundError(f"expected an alias of policy {change.policy!r}, got {from_alias!r}")
            point_alias(row, alias, wanted)
            follow_route(row, Route({wanted: 1.0}), change.serving)
            return row

        return self._change("promote", change, apply)

    def rollback(self, change: Change) -> DesiredPolicy:
        """Goes back to the route before.

        Raises:
            FailedPreconditionError: If there was none.
        """

        def apply(changing: _Changing) -> PolicyRow:
            row = changing.deployed()
            if len(row.routes) == 1:
                raise FailedPreconditionError(f"expected a route to go back to, but policy {change.policy!r} had none")
            leave_route(row, change.serving)
            del row.routes[-1]
            return row

        return self._change("rollback", change, apply)

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
            return [audit_record(row) for row in session.scalars(wanted)]

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

    def _change(self, action: str, change: Change, apply: Callable[[_Changing], PolicyRow]) -> DesiredPolicy:
        """Carries out a change after which the policy is deployed."""
        policy = self._apply(action, change, apply).policy
        assert policy is not None  # noqa: S101 - a request that is sent again is the same one
        return policy

    def _apply(self, action: str, change: Change, apply: Callable[[_Changing], PolicyRow | None]) -> Outcome:
        """Carries out a change, in a transaction that has the database for itself, and writes its audit record.

        Args:
            action: What it is called in the audit trail.
            change: Who changes what.
            apply: Changes the policy's rows; gives the policy, or None if it is not deployed any more.

        Raises:
            AbortedError: If the policy is not at the expected revision.
            InvalidArgumentError: If another request had the same id.
        """
        with self._database.writing() as session:
            # Locks the row also where writers do not exclude each other from the start.
            revision = session.execute(select(StateRow.revision).with_for_update()).scalar_one() + 1
            if (earlier := _outcome(session, change)) is not None:
                return earlier
            session.execute(update(StateRow).values(revision=revision))
            row = session.scalars(select_policies().where(PolicyRow.name == change.policy)).one_or_none()
            found = row.revision if row else 0
            if change.expected_revision and found != change.expected_revision:
                raise AbortedError(
                    f"expected policy {change.policy!r} at revision {change.expected_revision}, but it is "
                    + (f"at {found}: somebody else has changed it" if found else "not deployed any more")
                )
            before = desired_policy(row) if row else None
            changed = apply(_Changing(session, change, row, before.scale if before else None))
            after = None
            if changed is not None:
                changed.revision = revision
                after = desired_policy(changed)
            session.add(
                AuditRow(
                    time=datetime.now(UTC),
                    actor=change.actor,
                    action=action,
                    policy=change.policy,
                    before=describe(before) if before else "",
                    after=describe(after) if after else "",
                    revision=revision,
                    reason=change.reason,
                    request_id=change.request_id or None,
                    fingerprint=change.fingerprint or None,
                )
            )
            return Outcome(after)


def _outcome(session: Session, change: Change) -> Outcome | None:
    """Gives what a request has changed already; None if it has not been here."""
    if not change.request_id:
        return None
    row = session.scalars(
        select(AuditRow).where(AuditRow.policy == change.policy, AuditRow.request_id == change.request_id)
    ).one_or_none()
    if row is None:
        return None
    if row.fingerprint != change.fingerprint:
        raise InvalidArgumentError(
            f"expected a request id that no other request for policy {change.policy!r} has had, got "
            f"{change.request_id!r}, which a {row.action} of revision {row.revision} had"
        )
    if not row.after:
        return Outcome(None)
    versions = session.scalars(select(VersionRow).where(VersionRow.policy == change.policy))
    return Outcome(
        read_description(row.policy, row.revision, row.after, {entry.version: entry.uri for entry in versions})
    )
