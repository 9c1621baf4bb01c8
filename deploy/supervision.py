"""Supervisor: its configuration, its start, and the orders that it takes on its Unix socket."""

from __future__ import annotations

import shlex
import subprocess
import sys
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from supervisor.xmlrpc import SupervisorTransport

from deploy import layout
from deploy.programs import Program
from steersman.errors import InternalError
from steersman.settings import Settings


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
        socket: Its Unix socket.
    """

    def __init__(self, socket: Path) -> None:
        transport = SupervisorTransport(None, None, f"unix://{socket}")
        # The host in the URL is not used, but there has to be one.
        self._rpc: Any = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor

    def pid(self) -> int:
        """Gives its process id."""
        return cast("int", self._rpc.getPID())

    def processes(self) -> list[ProcessState]:
        """Lists its programs."""
        return [
            ProcessState(info["name"], info["statename"], info["pid"] or None, info["start"], info["spawnerr"])
            for info in self._rpc.getAllProcessInfo()
        ]

    def start_stopped(self) -> None:
        """Starts the programs that somebody stopped; returns at once."""
        for process in self.processes():
            if process.state in {"STOPPED", "EXITED", "FATAL"}:
                self._rpc.startProcess(process.name, False)

    def stop(self, name: str) -> None:
        """Stops one program, and returns when it has stopped."""
        self._rpc.stopProcess(name)

    def start(self, name: str) -> None:
        """Starts one program; returns at once."""
        self._rpc.startProcess(name, False)

    def stop_all(self) -> None:
        """Stops every program, all at the same time, and returns when they have stopped."""
        self._rpc.stopAllProcesses()

    def shutdown(self) -> None:
        """Ends supervisor itself; returns at once."""
        self._rpc.shutdown()


def connect(settings: Settings) -> Supervisor | None:
    """Connects to the stack's supervisor.

    Args:
        settings: The stack's settings, with absolute paths.

    Returns:
        The supervisor; None if none runs.
    """
    supervisor = Supervisor(layout.supervisor_socket(settings))
    try:
        supervisor.pid()
    except (OSError, xmlrpc.client.Error):
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
    command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(layout.configuration_file(settings))]
    done = subprocess.run(
        command, env=dict(environment), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise InternalError(f"supervisor did not start: {done.stderr.strip() or done.stdout.strip()}")


def configuration(settings: Settings, programs: Sequence[Program], digest: str) -> str:
    """Writes supervisor's configuration.

    Args:
        settings: The settings, with absolute paths.
        programs: What to run.
        digest: Stands for everything else that the programs depend on; two configurations are equal if and only if
            they run the same.
    """
    sections = [
        f"; digest of the environment: {digest}",
        "[unix_http_server]",
        f"file={_escaped(str(layout.supervisor_socket(settings)))}",
        "chmod=0700",
        "[rpcinterface:supervisor]",
        "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
        "[supervisord]",
        f"directory={_escaped(str(settings.var_dir))}",
        f"logfile={_escaped(str(layout.log_file(settings, 'supervisor')))}",
        f"pidfile={_escaped(str(layout.configuration_file(settings).with_suffix('.pid')))}",
    ]
    for program in programs:
        variables = ",".join(f'{name}="{_escaped(value)}"' for name, value in program.environment.items())
        sections += [
            f"[program:{program.name}]",
            f"command={_escaped(shlex.join(program.command))}",
            f"environment={variables}",
            f"stdout_logfile={_escaped(str(layout.log_file(settings, program.name)))}",
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


def _escaped(value: str) -> str:
    """Protects supervisor's own substitutions."""
    return value.replace("%", "%%")
