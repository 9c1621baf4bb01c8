"""The load generator, in a process of its own: `python -m faults.generator ADDRESS POLICY RATE`.

It asks from its start until its standard input ends, waits for the last answers, and writes what the clients got. Until
then it writes, several times a second, how many requests there were. Lines are JSON objects.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import uvloop

from faults import clients
from faults.clients import Ask, Target
from faults.tally import Report, Tally
from steersman.errors import SteersmanError

_CONNECTIONS = 4
"""Clients of each kind, which requests take turns on."""

MOST_IN_FLIGHT = 100
"""Requests of each kind without an answer; while there are so many, none is made. Robots wait for answers, too."""

_TICK_SECONDS = 0.004
_PROGRESS_SECONDS = 0.1
_PROMPT_SECONDS = 1.0
"""By how much a status may come later than the deadline."""

_FEW_PER_SECOND = 40.0
"""Requests of clients that are not part of the load: those that repeat nothing, and hasty ones."""


@dataclass(frozen=True)
class Protocol:
    """One kind of clients, and their share of the requests."""

    name: str
    share: float
    connect: Callable[[Target], contextlib.AbstractAsyncContextManager[Ask]]


PROTOCOLS = (
    # A request on a stream costs a third of a call, on both sides.
    Protocol("unary", 0.15, clients.unary),
    Protocol("stream", 0.4, clients.stream),
    Protocol("oip", 0.15, clients.infer),
    Protocol("oip-stream", 0.3, clients.infer_stream),
)


class Kind:
    """Clients of one kind, and what they get.

    Args:
        asks: What makes a request, for each of them.
        rate: Requests per second, over all of them.
        together: Counts the answers of several kinds as well; None for none.
        late_after: Seconds after which a status comes late; None where every status is a failure.
    """

    def __init__(
        self, asks: Sequence[Ask], rate: float, together: Tally | None = None, late_after: float | None = None
    ) -> None:
        self.tally = Tally()
        self._asks = itertools.cycle(asks)
        self._rate = rate
        self._together = together
        self._late_after = late_after
        self._in_flight: set[asyncio.Task[None]] = set()

    async def run(self, stopped: asyncio.Event) -> None:
        """Makes requests at fixed times, whether or not answers have come, and waits for the last answers."""
        due = time.monotonic()
        while not stopped.is_set():
            now = time.monotonic()
            while due <= now:
                due += 1 / self._rate
                if len(self._in_flight) < MOST_IN_FLIGHT:
                    task = asyncio.create_task(self._ask(next(self._asks)))
                    self._in_flight.add(task)
                    task.add_done_callback(self._in_flight.discard)
            await asyncio.sleep(max(_TICK_SECONDS, due - now))
        await asyncio.gather(*self._in_flight)

    async def _ask(self, ask: Ask) -> None:
        self.tally.sent += 1
        asked = time.monotonic()
        try:
            await ask()
        except Exception as error:  # noqa: BLE001 - whatever it is, the client got no action
            took = time.monotonic() - asked
            name = type(error).__name__
            if self._late_after is None:
                self.tally.failures[f"{name}: {error}"] += 1
            elif took > self._late_after or not isinstance(error, SteersmanError):
                self.tally.failures[f"{name} after {took:.1f} s: {error}"] += 1
        else:
            now = time.monotonic()
            self.tally.answer(asked, now)
            if self._together is not None:
                self._together.answer(asked, now)


async def generate(target: Target, rate: float, hasty_timeout: float | None, stopped: asyncio.Event) -> Report:
    """Asks until told to stop, and writes progress.

    Args:
        target: Who is asked.
        rate: Requests per second, over all protocols.
        hasty_timeout: Seconds that some more clients give their requests; None for no such clients.
        stopped: Set when it shall stop.
    """
    together = Tally()
    async with contextlib.AsyncExitStack() as opened:
        kinds = {
            protocol.name: Kind(
                [await opened.enter_async_context(protocol.connect(target)) for _ in range(_CONNECTIONS)],
                rate * protocol.share,
                together,
            )
            for protocol in PROTOCOLS
        }
        once = Kind([await opened.enter_async_context(clients.infer_once(target))], _FEW_PER_SECOND)
        running = [*kinds.values(), once]
        hasty_tally = Tally()
        if hasty_timeout is not None:
            quick = Target(target.address, target.policy, hasty_timeout)
            ask = await opened.enter_async_context(clients.unary(quick))
            running.append(Kind([ask], _FEW_PER_SECOND, late_after=hasty_timeout + _PROMPT_SECONDS))
            hasty_tally = running[-1].tally
        began, cpu = time.monotonic(), time.process_time()
        asking = [asyncio.create_task(kind.run(stopped)) for kind in running]
        while not stopped.is_set():
            _write({"sent": sum(kind.tally.sent for kind in kinds.values()), "answered": len(together.latencies)})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), _PROGRESS_SECONDS)
        seconds = time.monotonic() - began
        await asyncio.gather(*asking)
        spent = time.process_time() - cpu
    total = together.counts()
    protocols = {name: kind.tally.counts() for name, kind in kinds.items()}
    return Report(
        seconds, spent, total.p99_ms, total.longest_gap_ms, protocols, once.tally.counts(), hasty_tally.counts()
    )


def _write(line: dict[str, object]) -> None:
    print(json.dumps(line), flush=True)  # noqa: T201 - what it is for


async def _until_told(target: Target, rate: float, hasty_timeout: float | None) -> Report:
    """Asks until the standard input ends, which it also does when whoever started this is gone."""
    stopped = asyncio.Event()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    async def stop_at_the_end() -> None:
        await reader.read()
        stopped.set()

    stopping = asyncio.create_task(stop_at_the_end())
    report = await generate(target, rate, hasty_timeout, stopped)
    await stopping
    return report


def main() -> None:
    """Runs the generator."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("policy")
    parser.add_argument("rate", type=float)
    parser.add_argument("--timeout", type=float, default=Target.timeout)
    parser.add_argument("--hasty-timeout", type=float, default=None)
    arguments = parser.parse_args()
    # A collector that walks through all modules stops the generator for tens of milliseconds.
    gc.collect()
    gc.freeze()
    target = Target(arguments.address, arguments.policy, arguments.timeout)
    report = uvloop.run(_until_told(target, arguments.rate, arguments.hasty_timeout))
    _write(asdict(report))


if __name__ == "__main__":
    main()
