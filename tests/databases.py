"""Databases for tests: SQLite files, or a PostgreSQL server that the environment names.

`TEST_DATABASE_URL=postgresql+psycopg://user@host/database pytest tests/unit/services/gateway/control` runs the tests of
the control plane on that server, each in a schema of its own that is gone afterwards.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

VARIABLE = "TEST_DATABASE_URL"

postgres_only = pytest.mark.skipif(VARIABLE not in os.environ, reason=f"about a server that {VARIABLE} names")
sqlite_only = pytest.mark.skipif(VARIABLE in os.environ, reason="about files that SQLite locks")


def database_url(folder: Path) -> str:
    """Gives the URL of a test's own database; the same for the same folder, also in other processes.

    Args:
        folder: The test's own folder.
    """
    server = os.environ.get(VARIABLE)
    if server is None:
        return f"sqlite:///{folder / 'steersman.db'}"
    schema = _schema(folder)
    engine = create_engine(server)
    with engine.begin() as connection:
        # PostgreSQL's own IF NOT EXISTS does not cover those that make it at once.
        connection.execute(text("SELECT pg_advisory_xact_lock(1)"))
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {schema}"))
    engine.dispose()
    url = make_url(server).update_query_dict({"options": f"-csearch_path={schema}"})
    return url.render_as_string(hide_password=False)


def drop_database(folder: Path) -> None:
    """Removes what `database_url` has made outside of the folder.

    Args:
        folder: The test's own folder.
    """
    if server := os.environ.get(VARIABLE):
        engine = create_engine(server)
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA IF EXISTS {_schema(folder)} CASCADE"))
        engine.dispose()


def _schema(folder: Path) -> str:
    return "test_" + hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
