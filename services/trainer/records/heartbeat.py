"""The heartbeat of a run: a file in the run's folder that its job writes every few seconds.

So that the trainer can tell whether a run is alive without Ray, which may be away while its jobs go on.
"""

from __future__ import annotations

import enum
import json
import logging
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from services.common.files import write_whole

EVERY_SECONDS = 3.0
FRESH_SECONDS = 30.0
"""How old a heartbeat may be of a process that cannot be looked at, since it is on another machine."""

_FILE = "heartbeat.json"

_log = logging.getLogger(__name__)


class Life(enum.Enum):
    """What is known of a run's process."""

    ALIVE = "it lives"
    DEAD = "it is gone for certain"
    UNKNOWN = "nobody knows"


@dataclass(frozen=True)
class Heartbeat:
    """A sign of life.

    Attributes:
        attempt: Of which attempt at the run.
        time: When, in seconds since the epoch.
        place: Where the process is: which machine, since when that runs, and which processes it can see.
        pid: The process.
        started: When it started, in seconds since the epoch: numbers of processes are used again.
    """

    attempt: int
    time: float
    place: str
    pid: int
    started: float


def beat(folder: Path, attempt: int) -> None:
    """Writes a sign of life of this process.

    Args:
        folder: The run's.
        attempt: Which attempt at the run this process is.

    Raises:
        OSError: If it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    now = Heartbeat(attempt, time.time(), _here(), os.getpid(), psutil.Process().create_time())
    write_whole(folder / _FILE, json.dumps(asdict(now)).encode())


def keep_beating(folder: Path, attempt: int, ended: threading.Event) -> None:
    """Gives signs of life from now on, in a thread of its own, whatever else this process waits for.

    Args:
        folder: The run's.
        attempt: Which attempt at the run this process is.
        ended: Set when it is to stop.
    """

    def work() -> None:
        while True:
            try:
                beat(folder, attempt)
            except OSError as error:
                # The disk may be full. Nobody fails a run because of that.
                _log.warning("no sign of life could be written: %s", error)
            if ended.wait(EVERY_SECONDS):
                return

    threading.Thread(target=work, daemon=True).start()


def last_beat(folder: Path) -> Heartbeat | None:
    """Reads the last sign of life in a run's folder; None if there is none that can be read."""
    try:
        return Heartbeat(**json.loads((folder / _FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def life_of(heartbeat: Heartbeat | None, attempt: int, now: float) -> Life:
    """Tells what is known of a run's process.

    Args:
        heartbeat: The last one, if any.
        attempt: The attempt that is asked about.
        now: Seconds since the epoch.
    """
    if heartbeat is None or heartbeat.attempt != attempt:
        return Life.UNKNOWN
    if heartbeat.place == _here():
        return Life.ALIVE if _runs(heartbeat) else Life.DEAD
    return Life.ALIVE if now - heartbeat.time < FRESH_SECONDS else Life.UNKNOWN


def _runs(heartbeat: Heartbeat) -> bool:
    try:
        process = psutil.Process(heartbeat.pid)
        return process.create_time() == heartbeat.started and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _here() -> str:
    """Names what this process shares with those whose numbers mean the same to it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        processes = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        boot, processes = str(psutil.boot_time()), ""
    return f"{socket.gethostname()} {boot} {processes}"
