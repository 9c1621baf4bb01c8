"""Several gateway processes on one port: started together, stopped together, each restarted when it dies."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from types import FrameType

_log = logging.getLogger(__name__)

WORKER_VARIABLE = "_STEERSMAN_GATEWAY_WORKER"
"""Tells a process which of the workers it is."""

_QUICK_SECONDS = 2.0
_MAX_QUICK_DEATHS = 5


def supervise(count: int) -> int:
    """Runs the workers until this process is told to stop.

    The kernel spreads connections over the processes that listen on the port (SO_REUSEPORT), so they share nothing and
    need no proxy before them.

    Args:
        count: How many.

    Returns:
        The exit status: 0 after a stop, 1 if workers die as soon as they are started.
    """
    started = [time.monotonic()] * count
    processes: list[subprocess.Popen[bytes]] = []
    stopping = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for process in processes:
            process.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for worker in range(count):
        processes.append(_start(worker))
    if stopping:
        # The signal came while only some of them were there to be told.
        stop(signal.SIGTERM, None)
    # Of each by itself: when they are killed in turns, none of them dies of itself.
    quick_deaths = [0] * count
    while True:
        pid, status = os.waitpid(-1, 0)
        worker = next(index for index, process in enumerate(processes) if process.pid == pid)
        if stopping:
            break
        was_quick = time.monotonic() - started[worker] < _QUICK_SECONDS
        quick_deaths[worker] = quick_deaths[worker] + 1 if was_quick else 0
        if quick_deaths[worker] > _MAX_QUICK_DEATHS:
            _log.error("gateway processes die as soon as they are started; giving up")
            stop(signal.SIGTERM, None)
            break
        _log.warning("gateway process %d ended with %d; starting another", worker, os.waitstatus_to_exitcode(status))
        started[worker] = time.monotonic()
        processes[worker] = _start(worker)
        if stopping:
            processes[worker].send_signal(signal.SIGTERM)
    for process in processes:
        process.wait()
    return 1 if max(quick_deaths) > _MAX_QUICK_DEATHS else 0


def _start(worker: int) -> subprocess.Popen[bytes]:
    environment = os.environ | {WORKER_VARIABLE: str(worker)}
    return subprocess.Popen([sys.executable, "-m", "services.gateway"], env=environment)
