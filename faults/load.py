"""The load while a fault is made, in a process of its own so that it does not suffer from what happens here."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from faults.clients import Target
from faults.tally import Report, read_report
from steersman.errors import UnavailableError

RATE = 2000.0
"""Requests per second. Where the machine does not give that, there are as many as it does."""


@dataclass(frozen=True)
class LoadOptions:
    """How the system is loaded.

    Attributes:
        rate: Requests per second.
        hasty_timeout: If set, some more clients ask with so few seconds. Their requests may fail, but not late.
        environment: Environment variables of the clients.
    """

    rate: float = RATE
    hasty_timeout: float | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


class Load:
    """Asks from the beginning of the block to its end.

    Args:
        target: Who is asked.
        options: How.
        told: Told several times a second how many requests were made.

    Attributes:
        sent: Requests that were made, as of a moment ago.
        answered: Those that were answered.
    """

    def __init__(self, target: Target, options: LoadOptions, told: Callable[[int], None]) -> None:
        self.sent = 0
        self.answered = 0
        self._target = target
        self._options = options
        self._told = told
        self._report: Report | None = None
        self._news = asyncio.Event()

    @property
    def report(self) -> Report:
        """What the clients got, after the end of the block.

        Raises:
            UnavailableError: If the generator did not live to tell.
        """
        if self._report is None:
            raise UnavailableError("expected the load generator to report what it got, but it ended before it could")
        return self._report

    async def __aenter__(self) -> Self:
        target, options = self._target, self._options
        command = [sys.executable, "-m", "faults.generator", target.address, target.policy, str(options.rate)]
        command += ["--timeout", str(target.timeout)]
        if options.hasty_timeout is not None:
            command += ["--hasty-timeout", str(options.hasty_timeout)]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | dict(options.environment),
            limit=2**24,
        )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        self._process.stdin.close()
        try:
            # Its last requests take no longer than they may.
            async with asyncio.timeout(self._target.timeout + 10):
                await self._reading
                await self._process.wait()
        finally:
            if self._process.returncode is None:
                self._process.kill()

    async def until_answered(self, count: int, seconds: float) -> None:
        """Waits for so many more answers.

        Raises:
            UnavailableError: If they are not there in time.
        """
        wanted = self.answered + count
        try:
            await self._until(lambda: self.answered >= wanted, seconds)
        except TimeoutError:
            raise UnavailableError(
                f"expected {count} more answers within {seconds:g} s, got {self.answered - wanted + count}"
            ) from None

    async def until_sent(self, count: int, seconds: float) -> None:
        """Waits until so many requests were made in all, but no longer than so many seconds.

        Raises:
            UnavailableError: If the generator ends before.
        """
        with contextlib.suppress(TimeoutError):
            await self._until(lambda: self.sent >= count, seconds)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                if self._reading.done():
                    raise UnavailableError("expected the load to go on, but its generator has ended")
                self._news.clear()
                await self._news.wait()

    async def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        try:
            async for line in self._process.stdout:
                entry = json.loads(line)
                if "protocols" in entry:
                    self._report = read_report(entry)
                else:
                    self.sent, self.answered = entry["sent"], entry["answered"]
                    self._told(self.sent)
                self._news.set()
        finally:
            self._news.set()
