"""What every system has in common."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import grpc
import psutil

from bench.loads import Load
from bench.models import Models
from bench.protocols import STEERSMAN, Protocol
from steersman.client import ConnectionOptions, open_channel


class System(ABC):
    """Something that serves the benchmark's policies.

    Attributes:
        name: As in the results.
        protocol: What it is spoken to in, where it is a gRPC server.
    """

    name: str
    protocol: Protocol = STEERSMAN

    @abstractmethod
    def start(self, models: Models) -> None:
        """Starts it; returns when it answers."""

    @abstractmethod
    def stop(self) -> None:
        """Stops it; harmless if it does not run."""

    @abstractmethod
    def target(self, load: Load) -> str | None:
        """Gives where to send a load; None if it cannot take it."""

    @abstractmethod
    def processes(self) -> Mapping[str, Sequence[psutil.Process]]:
        """Gives its processes by what they are."""

    @property
    def has_died(self) -> bool:
        """Whether it has ended by itself since it was started."""
        return False

    def batches(self, load: Load) -> tuple[int, int] | None:
        """Gives how many batches, and observations in them, there have been; None if it does not know."""
        return None


def free_address() -> str:
    """Gives an address on loopback whose port nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def start_module(module: str, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
    """Starts a Python module of this project in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments], env=os.environ | variables, stderr=subprocess.DEVNULL
    )


def wait_until_listening(address: str, process: subprocess.Popen[bytes], seconds: float = 30.0) -> None:
    """Waits until a gRPC server answers.

    Raises:
        RuntimeError: If it ends instead, or takes too long.
    """
    deadline = time.monotonic() + seconds
    with open_channel(ConnectionOptions((address,))) as channel:
        ready = grpc.channel_ready_future(channel)
        while time.monotonic() < deadline and process.poll() is None:
            try:
                ready.result(timeout=0.5)
            except grpc.FutureTimeoutError:
                continue
            return
    raise RuntimeError(f"expected {process.args!r} to listen on {address}, but it did not")


def end(process: subprocess.Popen[bytes] | None) -> None:
    """Ends a process that was started here."""
    if process is not None and process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
