"""Uses clients, forks, and prints as JSON what became of it: `python forking_program.py ADDRESS`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from steersman import PolicyClient

ADDRESS = sys.argv[1]
OBSERVATION = np.zeros(4, np.float32)
TIMEOUT = 5.0
FORKS_UNDER_LOAD = 10


def client() -> PolicyClient:
    """Makes a client."""
    return PolicyClient("scripted", address=ADDRESS, timeout=TIMEOUT)


def in_a_child(work: Callable[[], object]) -> str:
    """Has a child do something; says "answered", how it failed, or that it took longer than its timeout."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            work()
            said = "answered"
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent wants to know
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    deadline = time.monotonic() + TIMEOUT + 3
    while time.monotonic() < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            return os.read(reader, 4096).decode() or "the child crashed"
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "the child hung"


def new_client() -> None:
    """Is answered by a client of its own."""
    with client() as own:
        own.act(OBSERVATION)


def new_stream() -> None:
    """Is answered on a stream of its own."""
    with client() as own, own.stream() as stream:
        stream.act(OBSERVATION)


def main() -> None:
    """Tells the story."""
    unused = client()
    unused_stream = unused.stream()
    told = {
        "unused": {
            "client": in_a_child(lambda: unused.act(OBSERVATION)),
            "stream": in_a_child(lambda: unused_stream.act(OBSERVATION)),
        }
    }
    used = client()
    stream = used.stream()
    used.act(OBSERVATION)
    stream.act(OBSERVATION)

    def close() -> None:
        with used, stream:
            pass

    inherited: dict[str, Callable[[], object]] = {
        "client": lambda: used.act(OBSERVATION),
        "stream": lambda: stream.act(OBSERVATION),
        "submitting": lambda: stream.submit(OBSERVATION),
        "new client": new_client,
        "new stream": new_stream,
        "closing": close,
    }
    told["open"] = {name: in_a_child(work) for name, work in inherited.items()}

    stopped, failures = threading.Event(), []

    def ask(act: Callable[[np.ndarray], object]) -> None:
        while not stopped.is_set():
            try:
                act(OBSERVATION)
            except Exception as error:  # noqa: BLE001 - it is counted
                failures.append(error)

    asking = [threading.Thread(target=ask, args=(act,)) for act in (used.act, stream.act)]
    for thread in asking:
        thread.start()
    for _ in range(FORKS_UNDER_LOAD):
        in_a_child(close)
    stopped.set()
    for thread in asking:
        thread.join()
    used.act(OBSERVATION)
    stream.act(OBSERVATION)
    told["parent"] = {"failures": str(len(failures)), "after": "answered"}

    stream.close()
    used.close()
    told["closed"] = {"client": in_a_child(new_client), "stream": in_a_child(new_stream)}
    print(json.dumps(told))  # noqa: T201 - the result


if __name__ == "__main__":
    main()
