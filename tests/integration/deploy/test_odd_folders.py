"""Folders for state whose names are read differently by URLs, configuration files and command lines."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient

from deploy import stack
from deploy.own_settings import own_settings
from deploy.programs import local_programs
from steersman.settings import Settings
from tests import odd_names

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    chosen = own_settings(tmp_path / odd_names.EVERYTHING / "var")
    yield chosen
    stack.stop(chosen)


def test_what_is_stored_lies_in_the_folder_and_is_found_after_a_restart(settings: Settings, tmp_path: Path) -> None:
    programs = [each for each in local_programs(settings) if each.name in {"mlflow", "gateway"}]
    (tmp_path / "map.txt").write_text("north")
    top = settings.var_dir.relative_to(tmp_path).parts[0]

    stack.start(settings, programs)
    client = MlflowClient(settings.mlflow_url)
    run = client.create_run(client.create_experiment("voyage")).info
    client.log_artifact(run.run_id, str(tmp_path / "map.txt"), "charts")
    stack.stop(settings)
    stack.start(settings, programs)

    fetched = MlflowClient(settings.mlflow_url).download_artifacts(run.run_id, "charts/map.txt", str(settings.var_dir))
    assert Path(fetched).read_text() == "north"
    stored = settings.var_dir / "mlflow" / "artifacts"
    assert [path.read_text() for path in stored.rglob("map.txt")] == ["north"]
    for file, table in (("mlflow/mlflow.db", "experiments"), ("steersman.db", "alembic_version")):
        with closing(sqlite3.connect(settings.var_dir / file)) as connection:
            assert connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]  # noqa: S608 - names from above
    assert {path.name for path in tmp_path.iterdir()} == {"map.txt", top}
