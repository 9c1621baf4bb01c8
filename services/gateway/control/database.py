"""The control plane's database: connections, transactions, migrations. Everything here blocks; call it in a thread."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.orm import Session

from steersman.errors import FailedPreconditionError, UnavailableError

_log = logging.getLogger(__name__)

HEAD = "0003"
"""The newest migration."""

_BUSY_SECONDS = 5.0
_WRITES = "steersman_writes"
_MIGRATION_LOCK = 7_837_163_551
"""Any number that nothing else in a PostgreSQL database locks."""


class Database:
    """Connections to one database, made when they are needed.

    Args:
        url: As SQLAlchemy has it.

    Raises:
        FailedPreconditionError: If it is no such URL, or its driver is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            parsed = make_url(url)
            self._name = parsed.render_as_string(hide_password=True)
            sqlite = parsed.get_backend_name() == "sqlite"
            arguments = _connection_arguments(parsed)
            self._engine = create_engine(parsed, connect_args=arguments, pool_pre_ping=not sqlite)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise FailedPreconditionError(f"expected a database that SQLAlchemy can open: {error}") from error
        if sqlite:
            # SQLite itself reads a database that begins with "file:".
            if parsed.database and "uri" not in parsed.query:
                Path(parsed.database).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
        self._reader: Engine = self._engine
        self._writer: Engine = self._engine.execution_options(**{_WRITES: True})
        if parsed.get_backend_name() in {"postgresql", "mysql", "mariadb"}:
            # Several queries have to see one state; a change has to see what those before it have committed while it
            # waited for its turn.
            self._reader = self._engine.execution_options(isolation_level="REPEATABLE READ")
            self._writer = self._writer.execution_options(isolation_level="READ COMMITTED")

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Opens a session that sees one state of the database.

        Raises:
            UnavailableError: If the database cannot be reached, or is locked for too long.
        """
        with self._translated(), Session(self._reader) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Opens a session that is committed when the block ends, and rolled back if it raises.

        Raises:
            UnavailableError: If the database cannot be reached, or is locked for too long.
        """
        with self._translated(), Session(self._writer) as session, session.begin():
            yield session

    def migrate(self) -> None:
        """Brings the tables up to date; several processes may do so at once.

        Raises:
            UnavailableError: If the database cannot be reached, or is locked for too long.
            FailedPreconditionError: If a newer Steersman has made the tables.
        """
        with self._translated(), self._writer.begin() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _MIGRATION_LOCK})
            found = _migration_of(connection)
            if found == HEAD:
                return
            if connection.dialect.name == "postgresql":
                # Takes as long as it takes.
                connection.execute(text("SET LOCAL statement_timeout = 0"))
            if found > HEAD:
                raise FailedPreconditionError(
                    f"expected the database {self._name} to be at migration {HEAD} or before, but a newer Steersman "
                    f"has brought it to {found}"
                )
            # Only whoever migrates pays for loading it.
            from alembic import command
            from alembic.config import Config

            config = Config()
            # Alembic substitutes what stands behind a percent sign.
            scripts = str(Path(__file__).parent / "migrations").replace("%", "%%")
            config.set_main_option("script_location", scripts)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        _log.info("the database %s is at migration %s", self._name, HEAD)

    def close(self) -> None:
        """Closes all connections that are not in use."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise UnavailableError(f"cannot use the database {self._name}: {error.orig}") from error
        except json.JSONDecodeError as error:
            raise UnavailableError(
                f"expected JSON in the database {self._name}, where Steersman has written some, got {error.doc[:100]!r}"
            ) from error
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise UnavailableError(f"cannot use the database {self._name}: {error}") from error


def _connection_arguments(url: URL) -> dict[str, Any]:
    """Gives arguments of the driver, with which nothing waits for ever for a lock or for a server that is gone."""
    if url.get_backend_name() == "sqlite":
        return {"timeout": _BUSY_SECONDS}
    if url.get_backend_name() == "postgresql" and url.get_driver_name() == "psycopg":
        options = f"-c lock_timeout={_BUSY_SECONDS:g}s -c statement_timeout={2 * _BUSY_SECONDS:g}s"
        limits = {"connect_timeout": int(_BUSY_SECONDS), "tcp_user_timeout": int(2000 * _BUSY_SECONDS)}
        return {
            **{name: limit for name, limit in limits.items() if name not in url.query},
            # Of two values of an option the later one holds, which is what the URL says.
            "options": f"{options} {url.query.get('options', '')}",
        }
    return {}


def _migration_of(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or ""


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # Python's own driver would begin transactions when it sees fit: too late for DDL and for reads before a write.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = ON")
    # Readers and the one writer do not wait for each other.
    connection.execute("PRAGMA journal_mode = WAL")


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that writes takes the lock at once: what it reads before is then still true when it commits.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
