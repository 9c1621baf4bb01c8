"""Supervisor: its configuration, its start, and the orders that it takes on its Unix socket."""

from __future__ import annotations

import contextlib
import http.client
import re
import shlex
import socket
import subprocess
import sys
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from deploy import layout
from deploy.programs import Program
from steersman.errors import FailedPreconditionError, InternalError, UnavailableError
from steersman.settings import Settings

_ANSWER_SECONDS = 5.0
_START_SECONDS = 30.0
# Besides what the programs have to end by themselves.
_KILL_SECONDS = 30.0


@dataclass(frozen=True)
class ProcessState:
    """What supervisor knows of one program.

    Attributes:
        name: The program.
        state: Supervisor's word: "STARTING", "RUNNING", "BACKOFF", "STOPPED", "FATAL", ...
        pid: Its process, if it runs.
        started: When it was last started, in seconds since the epoch; 0 if never.
        error: Why it could not be started at all, or empty.
    """

    name: str
    state: str
    pid: int | None
    started: int
    error: str


class Supervisor:
    """A supervisor that runs.

    Args:
        path: Its Unix socket.
        stop_seconds: How long stopping programs may take.

    Every method raises a NoSupervisorError or a SilentSupervisorError if supervisor does not answer.
    """

    def __init__(self, path: Path, stop_seconds: float) -> None:
        self._path = path
        self._stop_seconds = stop_seconds

    def pid(self) -> int:
        """Gives its process id."""
        return cast("int", self._call("getPID"))

    def processes(self) -> list[ProcessState]:
        """Lists its programs."""
        return [
            ProcessState(info["name"], info["statename"], info["pid"] or None, info["start"], info["spawnerr"])
            for info in self._call("getAllProcessInfo")
        ]

    def start_stopped(self) -> None:
        """Starts the programs that somebody stopped; returns at once."""
        for process in self.processes():
            if process.state in {"STOPPED", "EXITED", "FATAL"}:
                # One that another one has started meanwhile is fine, and one that cannot start is seen in its state.
                with contextlib.suppress(xmlrpc.client.Fault):
                    self.start(process.name)

    def stop(self, name: str) -> None:
        """Stops one program, and returns when it has stopped."""
        self._call("stopProcess", name, timeout_seconds=self._stop_seconds)

    def start(self, name: str) -> None:
        """Starts one program; returns at once."""
        self._call("startProcess", name, False)

    def stop_all(self) -> None:
        """Stops every program, all at the same time, and returns when they have stopped."""
        self._call("stopAllProcesses", timeout_seconds=self._stop_seconds)

    def shutdown(self) -> None:
        """Ends supervisor itself; returns at once."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: object, timeout_seconds: float = 0) -> Any:  # noqa: ANN401
        timeout_seconds = timeout_seconds or _ANSWER_SECONDS
        transport = _UnixTransport(self._path, timeout_seconds)
        # The host in the URL is not used, but there has to be one.
        with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as proxy:
            try:
                return getattr(proxy.supervisor, method)(*arguments)
            except TimeoutError as error:
                raise SilentSupervisorError(
                    f"expected supervisor at unix:{self._path} to answer within {timeout_seconds:g} s, but it takes "
                    "the connection and is silent; end it with: make down"
                ) from error
            except (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError) as error:
                raise NoSupervisorError(f"no supervisor answers at unix:{self._path}: {error}") from error


class NoSupervisorError(UnavailableError):
    """Nobody listens on supervisor's socket, or no longer."""


class SilentSupervisorError(UnavailableError):
    """Supervisor takes the connection and does not answer."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP on a Unix socket."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _UnixTransport(xmlrpc.client.Transport):
    """XML-RPC on a Unix socket, with a bound on how long an answer may take."""

    def __init__(self, path: Path, timeout_seconds: float) -> None:
        super().__init__()
        self._path = path
        self._timeout_seconds = timeout_seconds

    def make_connection(self, host: object) -> http.client.HTTPConnection:
        return _UnixConnection(self._path, self._timeout_seconds)


def connect(settings: Settings) -> Supervisor | None:
    """Connects to the stack's supervisor.

    Args:
        settings: The stack's settings, with absolute paths.

    Returns:
        The supervisor; None if none runs.

    Raises:
        SilentSupervisorError: If one takes the connection and does not answer.
    """
    stop_seconds = settings.shutdown_grace_seconds + _KILL_SECONDS
    supervisor = Supervisor(layout.supervisor_socket(settings), stop_seconds)
    try:
        supervisor.pid()
    except NoSupervisorError:
        return None
    return supervisor


def launch(settings: Settings, environment: Mapping[str, str]) -> None:
    """Starts supervisor as a daemon, which starts the programs of the configuration file.

    Args:
        settings: The stack's settings, with absolute paths.
        environment: The whole environment of supervisor and its programs.

    Raises:
        InternalError: If it refuses to start.
    """
    file = layout.configuration_file(settings).relative_to(settings.var_dir)
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(file)]
    try:
        done = subprocess.run(
            command,
            env=dict(environment),
            cwd=settings.var_dir,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_START_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise InternalError(f"supervisor did not start within {_START_SECONDS:g} s") from error
    if done.returncode != 0:
        raise InternalError(f"supervisor did not start: {done.stderr.strip() or done.stdout.strip()}")


def configuration(settings: Settings, programs: Sequence[Program], digest: str) -> str:
    """Writes supervisor's configuration.

    Files of the stack are named relative to `var_dir`, where supervisor runs: its configuration has no way to write
    every path, and expands some values twice.

    Args:
        settings: The settings, with absolute paths.
        programs: What to run.
        digest: Stands for everything else that the programs depend on; two configurations are equal if and only if
            they run the same.

    Raises:
        FailedPreconditionError: If a command has a line break in it.
    """
    sections = [
        f"; digest of the environment: {digest}",
        "[unix_http_server]",
        # Absolute, since supervisor makes it so, which may be too long. Short and plain.
        f"file={layout.supervisor_socket(settings)}",
        "chmod=0700",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        "[supervisord]",
        f"logfile={_relative(settings, layout.log_file(settings, 'supervisor'))}",
        f"pidfile={_relative(settings, layout.configuration_file(settings).with_suffix('.pid'))}",
        # By default the temporary folder, in which it deletes files of other supervisors.
        "childlogdir=supervisor",
        "umask=077",
    ]
    for program in programs:
        variables = ",".join(f'{name}="{_escaped(value)}"' for name, value in program.environment.items())
        sections += [
            f"[program:{program.name}]",
            f"command={_command(program.command)}",
            f"environment={variables}",
            f"stdout_logfile={_relative(settings, layout.log_file(settings, program.name))}",
            "stdout_logfile_maxbytes=20MB",
            "stdout_logfile_backups=2",
            "redirect_stderr=true",
            "autorestart=true",
            # Never given up: supervisor waits one second more before each attempt, and `up` tells who keeps crashing.
            "startretries=1000000",
            "startsecs=10",
            f"stopwaitsecs={program.stop_seconds}",
            "killasgroup=true",
        ]
    return "\n".join(sections) + "\n"


def _relative(settings: Settings, path: Path) -> str:
    return str(path.relative_to(settings.var_dir))


def _command(words: Sequence[str]) -> str:
    """Writes a command line so that supervisor reads the same words."""
    if any("\n" in word or "\r" in word for word in words):
        raise FailedPreconditionError(f"expected commands without line breaks, got {shlex.join(words)!r}")
    # What follows white space and one of these characters would be a comment, also within quotes. A quoted word may end
    # and go on: 'run #1' is the same as 'run ''#1'.
    return _escaped(re.sub(r"(?<=\s)([#;])", r"''\1", shlex.join(words)))


def _escaped(value: str) -> str:
    """Protects supervisor's own substitutions."""
    return value.replace("%", "%%")
