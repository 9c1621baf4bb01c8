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

import psutil

from deploy import layout, ports, processes, supervision
from deploy.programs import Program, local_programs, make_ray_token, stack_environment
from steersman.errors import FailedPreconditionError, UnavailableError
from steersman.settings import Settings

START_SECONDS = 180.0
"""How long the whole stack may take to answer."""

_CRASHES_TOLERATED = 2
_LOG_TAIL_LINES = 25
_POLL_SECONDS = 0.3


@dataclass(frozen=True)
class Status:
    """One program as it stands.

    Attributes:
        name: The program.
        address: What users connect to.
        state: "stopped", "starting", "restarting", "stopping" or "ready".
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
        FailedPreconditionError: If an address is in use, or the stack runs with other settings.
        ProgramCrashedError: If a program crashes again and again.
        UnavailableError: If the stack does not answer in time.

    Whenever it raises, also on KeyboardInterrupt, it has stopped what it started.
    """
    settings = layout.absolute(settings)
    programs = local_programs(settings) if programs is None else programs
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
    """
    settings = layout.absolute(settings)
    with _lock(settings):
        # Looked up first: what loses its parent and its name later is still known.
        found = processes.members(settings)
        supervisor = supervision.connect(settings)
        if supervisor:
            supervisor.stop_all()
            process = psutil.Process(supervisor.pid())
            supervisor.shutdown()
            processes.wait([process], timeout_seconds=5)
        processes.end(found | processes.members(settings), grace_seconds=5)
    return bool(found)


def status(settings: Settings, programs: Sequence[Program] | None = None) -> list[Status]:
    """Tells how every program stands.

    Args:
        settings: The stack's settings.
        programs: Which; all of `local_programs` by default.
    """
    settings = layout.absolute(settings)
    programs = local_programs(settings) if programs is None else programs
    supervisor = supervision.connect(settings)
    states = {process.name: process for process in supervisor.processes()} if supervisor else {}
    with ThreadPoolExecutor(len(programs)) as pool:
        answers = list(pool.map(lambda program: program.name in states and program.is_ready(), programs))
    return [_status(program, states.get(program.name), ready) for program, ready in zip(programs, answers, strict=True)]


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


def _status(program: Program, process: supervision.ProcessState | None, ready: bool) -> Status:
    """Puts together what supervisor says and what the program's probe says."""
    if process is None or process.state in {"STOPPED", "EXITED", "FATAL", "UNKNOWN"}:
        return Status(program.name, program.address, "stopped")
    if process.state in {"BACKOFF", "STOPPING"} or process.pid is None:
        return Status(program.name, program.address, "stopping" if process.state == "STOPPING" else "restarting")
    return Status(
        program.name,
        program.address,
        "ready" if ready else "starting",
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
    digest = hashlib.sha256(json.dumps(ours, sort_keys=True).encode()).hexdigest()
    configuration = supervision.configuration(settings, programs, digest)
    path = layout.configuration_file(settings)

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
    ports.check_free(programs)
    make_ray_token(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    layout.log_file(settings, "supervisor").parent.mkdir(parents=True, exist_ok=True)
    (settings.var_dir / "mlflow").mkdir(exist_ok=True)
    path.write_text(configuration)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "STEERSMAN_"))}
    supervision.launch(settings, inherited | ours)
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
        current = status(settings, programs)
        watch(current)
        waiting = [program.name for program in current if not program.ready]
        if not waiting:
            return
        supervisor = supervision.connect(settings)
        for process in supervisor.processes() if supervisor else ():
            starts[process.name].add(process.started)
            if len(starts[process.name]) > _CRASHES_TOLERATED and process.name in waiting:
                raise ProgramCrashedError(
                    f"{process.name} keeps crashing" + (f" ({process.error})" if process.error else ""),
                    process.name,
                    log_tail(settings, process.name),
                )
        if time.monotonic() > deadline or supervisor is None:
            raise UnavailableError(
                f"expected every program to answer within {timeout_seconds:.0f} s, but not: {', '.join(waiting)}; "
                f"their logs are in {settings.var_dir / 'logs'}"
            )
        time.sleep(_POLL_SECONDS)


@contextlib.contextmanager
def _lock(settings: Settings) -> Iterator[None]:
    """Holds the stack's lock."""
    path = layout.lock_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
