import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from services.gateway.control import database as database_module
from services.gateway.control.database import HEAD, Database
from services.gateway.control.models import Base
from services.gateway.control.store import Store
from steersman.errors import FailedPreconditionError, UnavailableError
from steersman.settings import Settings
from tests import odd_names
from tests.databases import database_url, sqlite_only


def test_the_migrations_make_the_tables_of_the_models(tmp_path: Path) -> None:
    Database(database_url(tmp_path)).migrate()
    with create_engine(database_url(tmp_path)).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_the_newest_migration_is_the_one_that_is_looked_for() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(database_module.__file__).parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_what_was_changed_before_there_were_reasons_has_none(tmp_path: Path) -> None:
    engine = create_engine(database_url(tmp_path))
    config = Config()
    config.set_main_option("script_location", str(Path(database_module.__file__).parent / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(
            text(
                "INSERT INTO audit (time, actor, action, policy, before, after, revision)"
                " VALUES ('2026-01-02 03:04:05', 'ann', 'deploy', 'cartpole', '', '{}', 1)"
            )
        )
    database = Database(database_url(tmp_path))
    database.migrate()
    (record,) = Store(database).audit("cartpole", 10)
    assert (record.actor, record.reason) == ("ann", "")


def test_several_gateways_may_migrate_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: Database(database_url(tmp_path)).migrate(), range(4)))
    assert Store(Database(database_url(tmp_path))).revision() == 0


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    database = Database(database_url(tmp_path))
    database.migrate()
    with create_engine(database_url(tmp_path)).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(FailedPreconditionError, match="a newer Steersman has brought it to 9999"):
        database.migrate()


@sqlite_only
@pytest.mark.parametrize("kind", odd_names.KINDS)
def test_database_and_migrations_may_lie_in_a_folder_of_any_name(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, var_dir = tmp_path / "checkout" / odd_names.KINDS[kind], tmp_path / "state" / odd_names.KINDS[kind]
    shutil.copytree(Path(database_module.__file__).parent / "migrations", checkout / "migrations")
    monkeypatch.setattr(database_module, "__file__", str(checkout / "database.py"))

    Database(Settings(var_dir=var_dir).database).migrate()

    found = {path.name.removesuffix("-wal").removesuffix("-shm") for path in var_dir.iterdir()}
    assert found == {"steersman.db"}
    assert len(list((tmp_path / "state").iterdir())) == 1
    assert stat.S_IMODE(var_dir.stat().st_mode) == 0o700


@sqlite_only
def test_a_database_that_sqlite_reads_as_a_uri_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    Database(f"sqlite:///file:{tmp_path}/one.db?uri=true").migrate()

    assert {path.name for path in tmp_path.iterdir()} <= {"one.db", "one.db-wal", "one.db-shm"}


@pytest.mark.parametrize("wrong", ["oops", "nobase://x", "sqlite+nodriver:///x"])
def test_what_is_no_database_is_refused(wrong: str) -> None:
    with pytest.raises(FailedPreconditionError, match="expected a database that SQLAlchemy can open"):
        Database(wrong)


def test_the_folder_of_a_file_is_made(tmp_path: Path) -> None:
    Database(f"sqlite:///{tmp_path / 'deep' / 'steersman.db'}").migrate()
    assert (tmp_path / "deep" / "steersman.db").exists()


def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "steersman.db").mkdir()
    with pytest.raises(UnavailableError, match="cannot use the database"):
        Database(f"sqlite:///{tmp_path / 'steersman.db'}").migrate()
