from __future__ import annotations

import re
import stat
from pathlib import Path

import pytest

from deploy.own_settings import own_settings
from deploy.programs import STACK_VARIABLE, local_programs, make_ray_token, stack_environment
from steersman.errors import FailedPreconditionError
from steersman.settings import Settings
from tests import odd_names


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


def test_only_the_gateway_has_the_password_of_its_database(settings: Settings) -> None:
    """Of what the others start, much is code that users bring along."""
    secretive = settings.model_copy(update={"database_url": "postgresql://me:s3cr3t@127.0.0.1/base"})
    shared = stack_environment(secretive)

    has = [
        program.name
        for program in local_programs(secretive)
        if any("s3cr3t" in value for value in (shared | dict(program.environment)).values())
    ]

    assert has == ["gateway"]


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
    assert environment["ORT_DISABLE_TELEMETRY"] == "1"
    assert environment["DO_NOT_TRACK"] == "1"


def test_calls_to_this_machine_go_past_a_proxy(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", "example.org, 127.0.0.1")

    environment = stack_environment(settings)

    # Whichever of the two a program reads.
    assert environment["NO_PROXY"] == environment["no_proxy"] == "example.org,127.0.0.1,localhost,::1"
    assert "no_grpc_proxy" not in environment


def test_grpc_s_own_variable_is_completed_where_it_is_set(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_grpc_proxy", "example.com")

    assert set(stack_environment(settings)["no_grpc_proxy"].split(",")) >= {"example.com", "127.0.0.1", "localhost"}


@pytest.mark.parametrize("kind", odd_names.KINDS)
def test_no_command_depends_on_how_the_folder_is_named(kind: str, tmp_path: Path) -> None:
    settings = own_settings(tmp_path / odd_names.KINDS[kind])

    words = [word for program in local_programs(settings) for word in program.command[1:]]
    assert [word for word in words if not re.fullmatch(r"[A-Za-z0-9/._:=+-]+", word)] == []


@pytest.mark.parametrize("url", ["", "127.0.0.1:5000", "http://:5000", "http://[::1:5000", "http://127.0.0.1:port"])
def test_a_url_without_an_address_is_refused(settings: Settings, url: str) -> None:
    for setting in ("mlflow_url", "ray_dashboard_url"):
        with pytest.raises(FailedPreconditionError, match=f"STEERSMAN_{setting.upper()}, got {re.escape(repr(url))}"):
            local_programs(settings.model_copy(update={setting: url}))


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
