"""The tables of the control plane. `migrations/` makes them; a test holds the two together."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, DateTime, ForeignKey, Index, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from services.gateway.control.desired import NAME_LENGTH


class Base(DeclarativeBase):
    """Base of all tables."""

    # Names that migrations can rely on, whatever the database would choose.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class StateRow(Base):
    """The one row that every change begins with: it counts them, and so puts them in order."""

    __tablename__ = "state"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    revision: Mapped[int]
    adopted: Mapped[bool]
    """Whether what ran on Ray Serve before there was this database has been taken over."""


class PolicyRow(Base):
    """A policy that is deployed."""

    __tablename__ = "policies"

    name: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    revision: Mapped[int]
    min_replicas: Mapped[int]
    max_replicas: Mapped[int]
    replica_cpus: Mapped[float]
    replica_gpus: Mapped[float]
    leaving: Mapped[list[int]] = mapped_column(JSON)
    """Versions of the route that was left last: they stay loaded for the episodes that began with them."""
    routes: Mapped[list[RouteRow]] = relationship(
        cascade="all, delete-orphan", order_by="RouteRow.id", passive_deletes=True
    )
    versions: Mapped[list[VersionRow]] = relationship(cascade="all, delete-orphan", passive_deletes=True)
    aliases: Mapped[list[AliasRow]] = relationship(cascade="all, delete-orphan", passive_deletes=True)


class VersionRow(Base):
    """A version that a policy has been deployed with, and where its bundle lies."""

    __tablename__ = "versions"

    policy: Mapped[str] = mapped_column(ForeignKey("policies.name", ondelete="CASCADE"), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    uri: Mapped[str] = mapped_column(Text)


class RouteRow(Base):
    """A route that a policy has or had; the latest one holds, and Rollback takes it away."""

    __tablename__ = "routes"

    id: Mapped[int] = mapped_column(primary_key=True)
    policy: Mapped[str] = mapped_column(ForeignKey("policies.name", ondelete="CASCADE"), index=True)
    route: Mapped[dict[str, Any]] = mapped_column(JSON)


class AliasRow(Base):
    """A movable name for a version."""

    __tablename__ = "aliases"

    policy: Mapped[str] = mapped_column(ForeignKey("policies.name", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    version: Mapped[int]


class AuditRow(Base):
    """A change that was made. Outlives its policy."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    actor: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(NAME_LENGTH))
    policy: Mapped[str] = mapped_column(String(NAME_LENGTH), index=True)
    before: Mapped[str] = mapped_column(Text)
    after: Mapped[str] = mapped_column(Text)
    revision: Mapped[int]
    reason: Mapped[str] = mapped_column(Text, server_default="")
    request_id: Mapped[str | None] = mapped_column(String(NAME_LENGTH))
    """What the caller called the request by; none two of a policy's changes have the same."""
    fingerprint: Mapped[str | None] = mapped_column(String(64))
    """A digest of the request, to notice another one with the same id."""

    __table_args__ = (Index("ix_audit_policy_request_id", "policy", "request_id", unique=True),)


class LeaseRow(Base):
    """Which process may do what only one may do at a time."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(NAME_LENGTH), primary_key=True)
    holder: Mapped[str] = mapped_column(String(NAME_LENGTH))
    expires: Mapped[float]
    """Seconds since the epoch."""
