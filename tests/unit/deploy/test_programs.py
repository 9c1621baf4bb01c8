from __future__ import annotations

import stat
from pathlib import Path

import pytest

from deploy.own_settings import own_settings
from deploy.programs import STACK_VARIABLE, local_programs, make_ray_token, stack_environment
from steersman.settings import Settings


@pytest.fixture
def settings(short_folder: Path) -> Settings:
    return own_settings(short_folder / "programs")


def test_every_address_of_the_settings_belongs_to_one_program(settings: Settings) -> None:
    owners = [setting for program in local_programs(settings) for setting in program.ports]

    addresses = {name for name in Settings.model_fields if name.endswith(("_address", "_url"))}
    # A file, unless told otherwise.
    assert sorted(owners) == sorted(addresses - {"database_url"})


def test_every_program_listens_on_loopback_only(settings: Settings) -> None:
    for program in local_programs(settings):
        assert all(address.startswith("127.0.0.1:") for address in program.ports.values()), program.name
        assert not any("0.0.0.0" in word for word in program.command), program.name  # noqa: S104 - what must not be


def test_programs_read_the_same_settings_from_their_environment(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings.model_copy(update={"max_batch_size": 7, "ray_token_path": settings.ray_token_file})
    for name, value in stack_environment(chosen).items():
        monkeypatch.setenv(name, value)

    assert Settings() == chosen


def test_the_environment_marks_the_stack_and_keeps_quiet_towards_the_internet(settings: Settings) -> None:
    environment = stack_environment(settings)

    assert environment[STACK_VARIABLE] == str(settings.var_dir)
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    assert environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert environment["DO_NOT_TRACK"] == "1"


def test_calls_to_this_machine_go_past_a_proxy(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "example.org")

    assert stack_environment(settings)["NO_PROXY"] == "example.org,127.0.0.1,localhost"


def test_the_token_is_private_random_and_kept(short_folder: Path) -> None:
    first = Settings(var_dir=short_folder / "token-1")
    second = Settings(var_dir=short_folder / "token-2")

    make_ray_token(first)
    make_ray_token(second)
    token = first.ray_token_file.read_text()
    make_ray_token(first)

    assert len(token) == 64
    assert first.ray_token_file.read_text() == token
    assert second.ray_token_file.read_text() != token
    assert stat.S_IMODE(first.ray_token_file.stat().st_mode) == 0o600
