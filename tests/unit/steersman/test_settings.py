from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_settings import SettingsError
from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL, make_url

from steersman.settings import Settings, port_of
from tests import odd_names


def test_every_setting_has_a_description_that_is_a_sentence() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert field.description[0].isupper(), name
        assert field.description.endswith("."), name


def test_every_setting_has_a_default_and_is_on_loopback() -> None:
    settings = Settings()

    for name, value in settings:
        if name.endswith("_address"):
            assert value.startswith("127.0.0.1:"), name
        if name.endswith("_url") and name != "database_url":
            assert value.startswith("http://127.0.0.1:"), name


def test_the_environment_overrides_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERSMAN_GATEWAY_ADDRESS", "127.0.0.1:1234")
    monkeypatch.setenv("STEERSMAN_MAX_BATCH_SIZE", "7")

    settings = Settings()

    assert settings.gateway_address == "127.0.0.1:1234"
    assert settings.max_batch_size == 7


def test_the_file_overrides_the_default_and_the_environment_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "harbour.toml"
    file.write_text('log_level = "DEBUG"\nmax_batch_size = 3\n')
    monkeypatch.setenv("STEERSMAN_CONFIG", str(file))
    monkeypatch.setenv("STEERSMAN_MAX_BATCH_SIZE", "7")

    settings = Settings()

    assert settings.log_level == "DEBUG"
    assert settings.max_batch_size == 7


def test_a_file_in_the_working_folder_is_read_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "steersman.toml").write_text('log_level = "WARNING"\n')
    monkeypatch.delenv("STEERSMAN_CONFIG", raising=False)
    monkeypatch.chdir(tmp_path)

    assert Settings().log_level == "WARNING"


def test_an_unknown_name_in_the_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "harbour.toml"
    file.write_text('gateway_adress = "127.0.0.1:1"\n')
    monkeypatch.setenv("STEERSMAN_CONFIG", str(file))

    with pytest.raises(ValidationError, match="gateway_adress"):
        Settings()


def test_a_value_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERSMAN_MAX_BATCH_SIZE", "0")

    with pytest.raises(ValidationError, match="max_batch_size"):
        Settings()


def test_the_token_lies_in_var_dir_unless_told_otherwise() -> None:
    assert Settings(var_dir=Path("/a")).ray_token_file == Path("/a/ray/auth_token")
    assert Settings(var_dir=Path("/a"), ray_token_path=Path("/b")).ray_token_file == Path("/b")


@pytest.mark.parametrize(
    "name", ["VAR_DIR", "DATABASE_URL", "RAY_TOKEN_PATH", "STATE_KEY_PATH", "GATEWAY_PEERS", "CONFIG"]
)
def test_an_empty_variable_is_the_default(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"STEERSMAN_{name}", "")

    assert Settings() == Settings.model_construct()


@pytest.mark.parametrize("name", ["mlflow_url", "ray_dashboard_url"])
def test_a_password_in_a_url_that_jobs_carry_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="without a user and a password") as refused:
        Settings.model_validate({name: "http://me:s3cr3t@127.0.0.1:5000"})
    assert "~/.mlflow/credentials" in str(refused.value)


def test_only_an_empty_url_of_ray_means_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERSMAN_RAY_DASHBOARD_URL", "")

    assert Settings().ray_dashboard_url == ""


def test_empty_paths_of_a_file_are_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "#1 of 100%.toml"
    file.write_text('var_dir = ""\nray_token_path = ""\nstate_key_path = ""\nlog_level = "DEBUG"\n')
    monkeypatch.setenv("STEERSMAN_CONFIG", str(file))

    settings = Settings()

    assert settings.log_level == "DEBUG"
    assert (settings.var_dir, settings.ray_token_path, settings.state_key_path) == (Path("var"), None, None)


def test_the_home_folder_has_its_short_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")

    assert Settings.model_validate({"var_dir": "~/state"}).var_dir == Path("/home/me/state")


@pytest.mark.parametrize("name", ["nowhere.toml", "."])
def test_a_file_of_settings_that_is_none_is_refused(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEERSMAN_CONFIG", str(tmp_path / name))

    with pytest.raises(SettingsError, match="STEERSMAN_CONFIG"):
        Settings()


def test_a_path_that_is_no_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERSMAN_VAR_DIR", "/x/\udcff")

    with pytest.raises(ValidationError, match="expected a path in UTF-8"):
        Settings()


@given(name=odd_names.NAMES)
def test_sqlalchemy_reads_the_path_of_the_default_database(name: str) -> None:
    settings = Settings(var_dir=Path("/state") / name)

    url = make_url(settings.database)

    assert url.database == str(settings.var_dir / "steersman.db")
    assert url == URL.create("sqlite", database=url.database)


@pytest.mark.parametrize("kind", odd_names.KINDS)
def test_the_default_database_is_a_file_of_the_folder(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / odd_names.KINDS[kind]
    folder.mkdir(parents=True)
    engine = create_engine(Settings(var_dir=folder).database)

    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE one (two INTEGER)"))
    engine.dispose()

    assert [path.name for path in folder.iterdir()] == ["steersman.db"]
    assert [path.name for path in tmp_path.iterdir()] == [folder.relative_to(tmp_path).parts[0]]


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().log_level = "DEBUG"  # type: ignore[misc]


@given(host=st.sampled_from(["127.0.0.1", "localhost", "[::1]"]), port=st.integers(0, 65535))
def test_the_port_of_an_address(host: str, port: int) -> None:
    assert port_of(f"{host}:{port}") == port


@pytest.mark.parametrize("address", ["", "localhost", "localhost:", "localhost:http", "50051:"])
def test_an_address_without_port_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="expected an address like"):
        port_of(address)
