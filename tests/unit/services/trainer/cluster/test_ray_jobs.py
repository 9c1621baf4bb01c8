from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray._private.utils import update_envs

from services.trainer.cluster.ray_jobs import job_environment, kept_by_ray
from steersman.settings import Settings

VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0")) | st.text("$HOME{}", max_size=8)


@given(values=st.lists(VALUES.filter(lambda value: "${" not in value), max_size=3))
def test_a_job_gets_its_variables_as_they_are(values: list[str]) -> None:
    variables = {f"STEERSMAN_{i}": value for i, value in enumerate(values)}
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DOLLAR", *variables):
            patch.setenv(name, "")

        # In the order in which Ray writes them down.
        update_envs(json.loads(json.dumps(kept_by_ray(variables), sort_keys=True)))

        assert {name: os.environ[name] for name in variables} == variables


def test_a_job_has_absolute_paths_and_no_secrets() -> None:
    settings = Settings(
        var_dir=Path("var #1"), database_url="postgresql://me:s3cr3t@host/base", state_key_path=Path("key")
    )

    environment = job_environment(settings)

    assert environment["STEERSMAN_VAR_DIR"] == str(Path("var #1").absolute())
    assert environment["STEERSMAN_RAY_TOKEN_PATH"] == str(Path("var #1/ray/auth_token").absolute())
    assert "STEERSMAN_STATE_KEY_PATH" not in environment
    assert "s3cr3t" not in "".join(environment.values())
