"""The one settings object: what every process of Steersman can be told, and its defaults.

Values come from environment variables `STEERSMAN_<NAME>`, then from the TOML file that `STEERSMAN_CONFIG` names
(`steersman.toml` in the working folder by default), then from the defaults below. An empty variable counts as none.
`docs/settings.md` is generated from this module.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from steersman._client.options import ConnectionOptions


class Settings(BaseSettings):
    """Settings of all services and of the command line."""

    model_config = SettingsConfigDict(env_prefix="STEERSMAN_", env_ignore_empty=True, extra="forbid", frozen=True)

    var_dir: Path = Field(Path("var"), description="Folder for all local state: databases, artifacts, logs, sockets.")

    gateway_address: str = Field("127.0.0.1:50051", description="Address at which the gateway listens for clients.")
    gateway_replica_address: str = Field(
        "127.0.0.1:50061",
        description="Address at which the gateway listens for policy replicas, and at which they find it.",
    )
    trainer_address: str = Field("127.0.0.1:50052", description="Address at which the trainer listens.")
    evaluator_address: str = Field("127.0.0.1:50053", description="Address at which the evaluator listens.")
    grpc_server: Literal["native", "grpcio"] = Field(
        "native",
        description="What answers gRPC: `native` is Steersman's own server on libnghttp2, `grpcio` the one of gRPC's "
        "Python package. Where the package `ngh2` cannot be installed it is always `grpcio`.",
    )
    max_message_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1024,
        le=2**31 - 1,
        description="Largest gRPC message, in bytes, that a server or client sends or accepts. Set it alike at both "
        "ends.",
    )
    max_calls: int = Field(
        16_384,
        ge=1,
        description="Most calls with a single answer that a server process handles at a time. It refuses more.",
    )
    max_streams: int = Field(
        16_384, ge=1, description="Most streams that are open at a time at a server process. It refuses more."
    )
    max_calls_per_connection: int = Field(
        8192,
        ge=1,
        description="Most calls, streams included, that are open at a time on one connection. Clients hold back more.",
    )
    max_metadata_bytes: int = Field(
        16 * 1024,
        ge=1024,
        le=1024**2,
        description="Largest metadata of a call, in bytes, that a server accepts. A single value of more than 64 KiB "
        "ends the connection.",
    )
    max_connection_idle_seconds: float = Field(
        3600.0,
        ge=0,
        description="Time without any call after which a server closes a connection. 0: never.",
    )
    keepalive_seconds: float = Field(
        30.0,
        ge=1,
        description="Time without a byte from a client after which a server checks that it is still there.",
    )
    keepalive_timeout_seconds: float = Field(
        20.0, ge=1, description="Time that a client has to answer that check before its connection is closed."
    )
    shutdown_grace_seconds: float = Field(
        10.0, ge=0, description="Time that calls in flight have to finish when a server stops."
    )

    mlflow_url: str = Field(
        "http://127.0.0.1:5000", description="URL of the MLflow tracking server and model registry."
    )
    ray_dashboard_url: str = Field(
        "http://127.0.0.1:8265",
        description="URL of Ray's dashboard, through whose REST API Jobs and Serve are controlled. Empty: the "
        "gateway runs without Ray.",
    )
    ray_address: str = Field(
        "127.0.0.1:6379", description="Address of Ray's head node. `make up` starts a local one there."
    )
    ray_token_path: Path | None = Field(
        None, description="File with Ray's authentication token. Default: `ray/auth_token` in `var_dir`."
    )
    ray_logical_cpus: int = Field(
        16,
        ge=1,
        description="CPUs that a local Ray hands out. More than the machine has, so that training never keeps "
        "policies from starting.",
    )
    ray_object_store_bytes: int = Field(
        256 * 1024 * 1024, ge=80 * 1024 * 1024, description="Shared memory, in bytes, that a local Ray reserves."
    )
    serve_http_address: str = Field("127.0.0.1:8000", description="Address at which Ray Serve answers plain HTTP.")
    replica_cpus: float = Field(
        0.5,
        ge=0,
        description="Logical CPUs that each policy replica reserves in Ray. A deployment may ask for another number.",
    )
    replica_gpus: float = Field(
        0.0,
        ge=0,
        description="Logical GPUs that each policy replica reserves in Ray. A deployment may ask for another number.",
    )
    max_batch_size: int = Field(512, ge=1, description="Most observations that a replica computes in one batch.")
    max_queue_delay_microseconds: int = Field(
        0,
        ge=0,
        description="Longest time that a batch which is not full waits for more observations. 0: it never waits.",
    )

    autoscaling_target_share: float = Field(
        0.7,
        gt=0,
        le=1,
        description="Share of their time that replicas should be busy. Autoscaling adds and removes replicas to get "
        "there.",
    )
    autoscaling_interval_seconds: float = Field(
        0.5, gt=0, description="Time between load reports of a replica. A scaling decision takes about two reports."
    )
    autoscaling_look_back_seconds: float = Field(
        60.0, gt=0, description="Time that a replica must not have been needed before it is removed."
    )
    autoscaling_drain_seconds: float = Field(
        15.0,
        gt=0,
        description="Time within which a backlog should be worked off. Less time means more replicas after a burst.",
    )
    autoscaling_idle_seconds: float = Field(
        300.0,
        ge=0,
        description="Time without requests after which a policy that may have no replica is scaled to zero.",
    )
    scale_from_zero_seconds: float = Field(
        60.0,
        gt=0,
        description="Longest time that a request waits for the first replica of its policy. Its own deadline may be "
        "earlier.",
    )

    database_url: str = Field(
        "",
        description="Database that all gateways share for what is wanted: policies, routes, aliases, audit trail. "
        "Any URL of SQLAlchemy's, with special characters percent-encoded. Default: the SQLite file `steersman.db` in "
        "`var_dir`.",
    )
    gateway_workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Number of gateway processes on the one port. Each takes replicas on a port of its own.",
    )
    gateway_connection_age_seconds: float = Field(
        0.0,
        ge=0,
        description="Age at which the gateway asks clients to replace a connection, so that they find new gateways. "
        "Streams move over; calls that last twice as long are cut off. 0: never.",
    )
    gateway_peers: list[str] = Field(
        [], description="Internal addresses of gateways on other hosts. Replicas attach to them as well."
    )
    queue_observations: int = Field(
        16_384, ge=1, description="Most observations that wait for one policy at one gateway process."
    )
    queue_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1,
        description="Most bytes of observations that wait for one policy at one gateway process.",
    )
    reject_nonfinite: bool = Field(
        False,
        description="Whether the gateway refuses observations with NaN or infinity. Otherwise they are computed as "
        "they are.",
    )
    busy_poll_microseconds: int = Field(
        300,
        ge=0,
        le=10_000,
        description="How long a gateway and a replica stay awake for each other where a single caller is all that "
        "there is, since to wake a process takes longer than a small batch. Only while it pays. 0: never.",
    )
    retry_pushback_milliseconds: int = Field(
        50, ge=0, description="Time after which a client that was refused for lack of room should try again."
    )
    batch_timeout_seconds: float = Field(
        10.0,
        gt=0,
        description="Time for the answer to a batch, after which its replica is taken for lost. One that has always "
        "been much faster gets 20 times its usual time, but at least 2 seconds; one that is known to need longer for a "
        "batch of that size gets 3 times as long.",
    )
    max_sessions: int = Field(100_000, ge=0, description="Most sessions of each policy that one gateway process keeps.")
    session_idle_seconds: float = Field(
        600.0, gt=0, description="Time without a step after which a session is forgotten."
    )
    state_key_path: Path | None = Field(
        None,
        description="File with the secret that seals what clients carry; the same for all gateways. "
        "Default: `gateway/state_key` in `var_dir`, made if it does not exist.",
    )

    environment_check_seconds: float = Field(
        30.0, gt=0, description="Longest time to make, reset and step an environment before a run of it begins."
    )
    environment_step_seconds: float = Field(
        120.0,
        gt=0,
        description="Longest time for one reset or step of an environment. A run or evaluation that exceeds it fails.",
    )
    iteration_seconds: float = Field(
        1800.0, gt=0, description="Longest time for one training iteration. A run that exceeds it fails."
    )

    evaluator_modules: list[str] = Field(
        [], description="Python modules that the evaluator imports since they register environments of your own."
    )

    log_level: str = Field("INFO", description="Least severe log level that is written.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings' signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Orders the sources: arguments, environment, TOML file.

        Raises:
            SettingsError: If `STEERSMAN_CONFIG` names no file.
        """
        chosen = os.environ.get("STEERSMAN_CONFIG") or None
        if chosen is not None and (not (named := Path(chosen).expanduser()).exists() or named.is_dir()):
            raise SettingsError(f"expected the name of a TOML file in STEERSMAN_CONFIG, got {chosen!r}")
        file = TomlConfigSettingsSource(settings_cls, toml_file=chosen or "steersman.toml")
        # The one setting that means something when it is empty.
        no_ray = {"ray_dashboard_url": ""} if os.environ.get("STEERSMAN_RAY_DASHBOARD_URL") == "" else {}
        return init_settings, InitSettingsSource(settings_cls, no_ray), env_settings, file

    @field_validator("var_dir", "ray_token_path", "state_key_path", mode="before")
    @classmethod
    def _read_path(cls, given: object, field: ValidationInfo) -> object:
        """Reads a path as people write it: empty for the default, `~` for the home folder.

        Raises:
            ValueError: If it is no text, as databases and URLs need it.
        """
        if given == "":
            return cls.model_fields[field.field_name or ""].default
        if not isinstance(given, str | Path):
            return given
        try:
            str(given).encode()
        except UnicodeEncodeError:
            raise ValueError("expected a path in UTF-8") from None
        return Path(given).expanduser()

    @field_validator("mlflow_url", "ray_dashboard_url")
    @classmethod
    def _refuse_passwords(cls, given: str) -> str:
        """Refuses a password in a URL that jobs carry, and that whoever may look at Ray's jobs can read.

        Raises:
            ValueError: If there is one.
        """
        if "@" in urlsplit(given).netloc:
            raise ValueError(
                "expected a URL without a user and a password, which every job would carry; MLflow reads them from "
                "~/.mlflow/credentials, or from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        return given

    def connection(self, address: str) -> ConnectionOptions:
        """Says how one of the services is connected to.

        Args:
            address: One of the addresses above.
        """
        return ConnectionOptions((address,), max_message_bytes=self.max_message_bytes)

    @property
    def state_key_file(self) -> Path:
        """The file that holds the secret for carried state."""
        return self.state_key_path or self.var_dir / "gateway" / "state_key"

    @property
    def database(self) -> str:
        """The URL of the gateways' database."""
        # SQLAlchemy decodes the path, as of any URL.
        return self.database_url or f"sqlite:///{quote(str(self.var_dir.absolute() / 'steersman.db'))}"

    @property
    def ray_token_file(self) -> Path:
        """The file that holds Ray's authentication token."""
        return self.ray_token_path or self.var_dir / "ray" / "auth_token"


@cache
def settings() -> Settings:
    """Gives this process's settings, read once.

    Raises:
        pydantic.ValidationError: If a value does not fit its setting, or the TOML file names an unknown one.
    """
    return Settings()


def port_of(address: str) -> int:
    """Gives the port of a `host:port` address.

    Raises:
        ValueError: If the address has no port.
    """
    _, _, port = address.rpartition(":")
    if not port.isdigit():
        raise ValueError(f"expected an address like 127.0.0.1:50051, got {address!r}")
    return int(port)
