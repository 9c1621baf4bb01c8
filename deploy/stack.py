"""The local stack as a whole: start it, look at it, stop it.

started = stack.start(settings)    # returns when every program answers
...
stack.stop(settings)               # returns when no process is left
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TextIO

import psutil

from deploy import layout, ports, processes, supervision
from deploy.health import Answer
from deploy.programs import Program, local_programs, make_ray_token, stack_environment
from steersman.errors import FailedPreconditionError, UnavailableError
from steersman.settings import Settings

START_SECONDS = 300.0
"""How long the whole stack may take to answer."""

_LOCK_SECONDS = 90.0
_CRASHES_TOLERATED = 2
_LOG_TAIL_LINES = 25
_POLL_SECONDS = 0.3


@dataclass(frozen=True)
class Status:
    """One program as it stands.

    Attributes:
        name: The program.
        address: What users connect to.
        state: "stopped", "starting", "restarting", "stopping", "silent" (it takes connections and does not answer) or
            "ready".
        pid: Its process, if it runs.
        uptime_seconds: How long it has run, if it does.
        memory_bytes: Resident memory of it and its descendants.
    """

    name: str
    address: str
    state: str
    pid: int | None = None
    uptime_seconds: float | None = None
    memory_bytes: int | None = None

    @property
    def ready(self) -> bool:
        """Whether it runs and answers."""
        return self.state == "ready"


class ProgramCrashedError(UnavailableError):
    """A program of the stack ends again and again.

    Attributes:
        program: Its name.
        log_tail: The last lines that it wrote.
    """

    def __init__(self, message: str, program: str, log_tail: str) -> None:
        super().__init__(message)
        self.program = program
        self.log_tail = log_tail


def _ignore(_: Sequence[Status]) -> None:
    """Watches nothing."""


def start(
    settings: Settings,
    programs: Sequence[Program] | None = None,
    watch: Callable[[Sequence[Status]], None] = _ignore,
    timeout_seconds: float = START_SECONDS,
) -> bool:
    """Starts the stack and returns when every program answers. Does no harm if it runs already.

    Args:
        settings: The stack's settings.
        programs: What to run; all of `local_programs` by default.
        watch: Called with the state of affairs several times a second.
        timeout_seconds: How long to wait.

    Returns:
        Whether this call started it; False if it ran already.

    Raises:
        FailedPreconditionError: If an address is in use, `var_dir` cannot be used, or the stack runs with other
            settings.
        ProgramCrashedError: If a program crashes again and again.
        UnavailableError: If the stack does not answer in time, or somebody stops it meanwhile.

    Whenever it raises, also on KeyboardInterrupt, it has stopped what it started.
    """
    settings = layout.absolute(settings)
    programs = local_programs(settings) if programs is None else programs
    layout.make_folders(settings)
    with _lock(settings):
        launched = _launch(settings, programs)
    try:
        _wait_until_ready(settings, programs, watch, timeout_seconds)
    except BaseException:
        if launched:
            stop(settings)
        raise
    return launched


def stop(settings: Settings) -> bool:
    """Stops the stack: when it returns, no process of it is left. Does no harm if nothing runs.

    Args:
        settings: The stack's settings.

    Returns:
        Whether there was anything to stop.

    Raises:
        FailedPreconditionError: If `var_dir` cannot be used.
        UnavailableError: If somebody else has been starting or stopping the stack for too long.
    """
    settings = layout.absolute(settings)
    with _lock(settings) if settings.var_dir.is_dir() else contextlib.nullcontext():
        # Looked up first: what loses its parent and its name later is still known.
        found = processes.members(settings)
        # A supervisor that does not answer is ended like all else.
        with contextlib.suppress(UnavailableError, psutil.NoSuchProcess):
            if supervisor := supervision.connect(settings):
                supervisor.stop_all()
                process = psutil.Process(supervisor.pid())
                supervisor.shutdown()
                processes.wait([process], timeout_seconds=5)
        processes.end(found | processes.members(settings), grace_seconds=5)
        layout.empty_temporary_folder(settings)
        layout.remove_links(settings)
    return bool(found)


def status(settings: Settings, programs: Sequence[Program] | None = None) -> list[Status]:
    """Tells how every program stands.

    Args:
        settings: The stack's settings.
        programs: Which; all of `local_programs` by default.

    Raises:
        supervision.SilentSupervisorError: If supervisor takes the connection and does not answer.
    """
    settings = layout.absolute(settings)
    programs = local_programs(settings) if programs is None else programs
    states: dict[str, supervision.ProcessState] = {}
    with contextlib.suppress(supervision.NoSupervisorError):
        if supervisor := supervision.connect(settings):
            states = {process.name: process for process in supervisor.processes()}
    with ThreadPoolExecutor(len(programs)) as pool:
        answers = list(
            pool.map(lambda program: program.probe() if program.name in states else Answer.NOT_READY, programs)
        )
    return [_status(program, states.get(program.name), heard) for program, heard in zip(programs, answers, strict=True)]


def log_tail(settings: Settings, program: str, lines: int = _LOG_TAIL_LINES) -> str:
    """Gives the last lines that a program wrote.

    Args:
        settings: The stack's settings.
        program: Its name.
        lines: How many.
    """
    path = layout.log_file(settings, program)
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def _status(program: Program, process: supervision.ProcessState | None, heard: Answer) -> Status:
    """Puts together what supervisor says and what the program's probe says."""
    if process is None or process.state in {"STOPPED", "EXITED", "FATAL", "UNKNOWN"}:
        return Status(program.name, program.address, "stopped")
    if process.state in {"BACKOFF", "STOPPING"} or process.pid is None:
        return Status(program.name, program.address, "stopping" if process.state == "STOPPING" else "restarting")
    return Status(
        program.name,
        program.address,
        "starting" if heard is Answer.NOT_READY else heard.value,
        process.pid,
        max(0.0, time.time() - process.started),
        processes.memory_bytes(process.pid),
    )


def _launch(settings: Settings, programs: Sequence[Program]) -> bool:
    """Starts supervisor with the programs, unless it runs them already.

    Returns:
        Whether it was started.
    """
    ours = stack_environment(settings)
    # Without what differs from one terminal to the next, such as PATH.
    chosen = {name: value for name, value in ours.items() if name.startswith("STEERSMAN_")}
    digest = hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()
    configuration = supervision.configuration(settings, programs, digest)
    path = layout.configuration_file(settings)

    layout.make_links(settings)
    supervisor = supervision.connect(settings)
    if supervisor:
        if path.read_text() != configuration:
            raise FailedPreconditionError(
                f"the stack in {settings.var_dir} runs with other settings than these; stop it first (make down)"
            )
        supervisor.start_stopped()
        return False

    # What a supervisor that was killed left behind would keep the ports.
    processes.end(processes.members(settings), grace_seconds=5)
    layout.empty_temporary_folder(settings)
    try:
        ports.check_free(programs)
        with layout.usable(settings):
            make_ray_token(settings)
            path.touch(mode=0o600)
            path.write_text(configuration)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "STEERSMAN_"))}
        supervision.launch(settings, inherited | ours)
    except BaseException:
        layout.remove_links(settings)
        raise
    return True


def _wait_until_ready(
    settings: Settings,
    programs: Sequence[Program],
    watch: Callable[[Sequence[Status]], None],
    timeout_seconds: float,
) -> None:
    """Waits until every program answers."""
    deadline = time.monotonic() + timeout_seconds
    starts: dict[str, set[int]] = defaultdict(set)
    while True:
        try:
            current = status(settings, programs)
            watch(current)
            unready = {program.name: program for program in current if not program.ready}
            if not unready:
                return
            running = _running(settings)
        except supervision.SilentSupervisorError:
            # On a busy machine it may need a while.
            if time.monotonic() > deadline:
                raise
            continue
        for process in running:
            starts[process.name].add(process.started)
            if len(starts[process.name]) > _CRASHES_TOLERATED and process.name in unready:
                raise ProgramCrashedError(
                    f"{process.name} keeps crashing" + (f" ({process.error})" if process.error else ""),
                    process.name,
                    log_tail(settings, process.name),
                )
        if time.monotonic() > deadline:
            waiting = ", ".join(map(_described, unready.values()))
            raise UnavailableError(
                f"expected every program to answer within {timeout_seconds:.0f} s, but not: {waiting}; their logs are "
                f"in {settings.var_dir / 'logs'}"
            )
        time.sleep(_POLL_SECONDS)


def _running(settings: Settings) -> list[supervision.ProcessState]:
    """Lists what supervisor knows of the programs while they are waited for."""
    with contextlib.suppress(supervision.NoSupervisorError):
        if supervisor := supervision.connect(settings):
            return supervisor.processes()
    raise UnavailableError(
        f"the stack in {settings.var_dir} was stopped before every program answered; its logs are in "
        f"{settings.var_dir / 'logs'}"
    )


def _described(program: Status) -> str:
    if program.state == "silent":
        return f"{program.name} ({program.address} takes connections and is silent)"
    return program.name


@contextlib.contextmanager
def _lock(settings: Settings) -> Iterator[None]:
    """Holds the stack's lock.

    Raises:
        FailedPreconditionError: If there can be no lock in `var_dir`.
        UnavailableError: If another process holds it for too long.
    """
    deadline = time.monotonic() + _LOCK_SECONDS
    path = layout.lock_file(settings)
    with contextlib.ExitStack() as open_file:
        with layout.usable(settings):
            path.parent.mkdir(mode=0o700, exist_ok=True)
            file = open_file.enter_context(path.open("a+"))
            while not _locked(file):
                if time.monotonic() > deadline:
                    file.seek(0)
                    raise UnavailableError(
                        f"another process ({file.read() or 'unknown'}) has been starting or stopping the stack in "
                        f"{settings.var_dir} for {_LOCK_SECONDS:.0f} s; try again when it has ended"
                    )
                time.sleep(_POLL_SECONDS)
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
