"""Worker processes: each does a part of an evaluation's work, and can be ended at any time.

An environment is foreign code. One that hangs, or takes its process down, must not take the evaluator with it; and it
may start processes of its own, which end with its worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from services.evaluator.workers.work import Ended, News, Part, Work, do
from steersman.errors import FailedPreconditionError

START_SECONDS = 60.0
"""How long a process may take until its first news: it imports what environments need."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["services.evaluator.play.shares"])
_WATCH_SECONDS = 0.1
_EXIT_SECONDS = 1.0
"""How long the server that processes are forked from may take to say how one has ended."""


def _work(work: Work[Any, Any], part: object, connection: Connection) -> None:
    """Is a worker process: does its part, and sends news and at last its end."""
    # A group of its own, so that what an environment starts can be ended with it.
    os.setsid()
    # To the evaluator it is a daemon, which ends with it; here it may have children.
    multiprocessing.current_process().daemon = False
    try:
        connection.send(do(work, part, connection.send))
    except BrokenPipeError:
        # The evaluator has gone without ending this, so nobody else ends what the environment has started.
        os.killpg(0, signal.SIGKILL)


class _Worker:
    """A worker process, and the thread that reads what it sends."""

    def __init__(self, index: int, work: Work[Any, Any], part: object, inbox: asyncio.Queue[Any]) -> None:
        self.index = index
        self.heard = time.monotonic()
        self.patience = START_SECONDS
        self._loop = asyncio.get_running_loop()
        self._inbox = inbox
        self._reads, writes = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(target=_work, args=(work, part, writes), daemon=True)
        self._writes = writes
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._lock = threading.Lock()
        self._killed = False

    def start(self) -> None:
        """Starts it. This blocks: the first one starts the server that all are forked from."""
        with self._lock:
            if not self._killed:
                self._process.start()
                self._writes.close()
                self._reader.start()

    def kill(self) -> None:
        """Ends it and what it has started, whatever it does; one that has not been started is not started any more."""
        with self._lock:
            if self._killed:
                return
            self._killed = True
            if (pid := self._process.pid) is not None:
                # The group is there as soon as it has begun its part; before that it has no children.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                self._process.kill()
                self._process.join()

    def _read(self) -> None:
        ended = False
        try:
            while not ended:
                message = self._receive()
                ended = isinstance(message, Ended)
                self._put(message)
        except (EOFError, OSError):
            code = self._exit_code()
            words = f" (exit code {code})" if code else ""
            self._put(Ended(FailedPreconditionError(f"an environment took its process down{words}")))
        # At once, as long as its number cannot have become another process's.
        self.kill()

    def _receive(self) -> Any:  # noqa: ANN401 - news of any work
        """Waits for what it says next.

        Raises:
            EOFError: If it has died, though what an environment has started may still hold the pipe open.
        """
        if self._reads not in multiprocessing.connection.wait([self._reads, self._process.sentinel]):
            raise EOFError
        return self._reads.recv()

    def _exit_code(self) -> int | None:
        """Gives how it has ended; None if it was ended here."""
        with self._lock:
            if self._killed:
                return None
            self._process.join(_EXIT_SECONDS)
            return self._process.exitcode

    def _put(self, message: object) -> None:
        # The loop is closed when the service ends in the middle.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._inbox.put_nowait, (self, message))


async def in_processes(
    parts: Sequence[Part], work: Work[Part, News], step_seconds: float
) -> AsyncGenerator[tuple[int, News]]:
    """Does parts of a work, each in a process of its own; all of them have ended when this has.

    Args:
        parts: What to do.
        work: Does a part.
        step_seconds: How long an environment may take for a reset or a step.

    Yields:
        News, with the index of their part.

    Raises:
        SteersmanError: What a part raised; `FailedPreconditionError` if an environment does not return in time, or
            ends its process.
    """
    inbox: asyncio.Queue[tuple[_Worker, Any]] = asyncio.Queue()
    workers = [_Worker(index, work, part, inbox) for index, part in enumerate(parts)]
    playing: set[_Worker] = set()
    try:
        for worker in workers:
            await asyncio.to_thread(worker.start)
            worker.heard = time.monotonic()
            playing.add(worker)
        while playing:
            try:
                async with asyncio.timeout(_WATCH_SECONDS):
                    worker, message = await inbox.get()
            except TimeoutError:
                _check(playing, step_seconds)
                continue
            worker.heard, worker.patience = time.monotonic(), step_seconds
            if isinstance(message, Ended):
                if message.error is not None and worker in playing:
                    raise message.error
                playing.discard(worker)
            else:
                yield worker.index, message
            _check(playing, step_seconds)
    finally:
        for worker in workers:
            worker.kill()


def _check(playing: set[_Worker], step_seconds: float) -> None:
    now = time.monotonic()
    for worker in playing:
        if now - worker.heard > worker.patience:
            what = "did not return from a reset or a step" if worker.patience == step_seconds else "was not made"
            raise FailedPreconditionError(f"expected an environment to answer, but one {what} in {worker.patience:g} s")
