"""The load generator, in a process of its own: `python -m bench.generator TARGET LOAD SECONDS [OPTIONS]`.

The same for every system, and lean: requests are serialised once, answers are not parsed, a closed loop keeps a fixed
number of them in flight, and gRPC is spoken by `services.common.rpc`, which costs a seventh of what grpc.aio does. It
prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import resource
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass

import aiohttp
import numpy as np
import uvloop

from bench.loads import LOADS, Load
from bench.protocols import PROTOCOLS, STEERSMAN, Protocol
from services.common.rpc import CallError, Channel

_PAUSE_AFTER_ERROR_SECONDS = 0.01
_TIMEOUT_SECONDS = 30.0
_TICK_SECONDS = 0.0005


@dataclass(frozen=True)
class Measurement:
    """What one run of the generator saw.

    Attributes:
        requests: Requests answered in the time measured.
        seconds: That time.
        latencies_ms: Median and 99th percentile, milliseconds; None if nothing was answered.
        cpu_seconds: What the generator itself cost, the warm-up included.
        answered: Requests answered in all, the warm-up included: what CPU time is divided by.
        errors: Requests that failed.
    """

    requests: int
    seconds: float
    latencies_ms: tuple[float, float] | None
    cpu_seconds: float
    answered: int
    errors: int


class _Clock:
    """Counts the answers after the warm-up, and the latencies of what was asked then."""

    def __init__(self, warm_up: float, seconds: float) -> None:
        self.begin = time.perf_counter() + warm_up
        self.end = self.begin + seconds
        self.latencies: list[float] = []
        self.answers = 0
        self.answered = 0
        self.errors = 0

    def count(self, asked: float, now: float) -> None:
        self.answered += 1
        if self.begin <= now <= self.end:
            self.answers += 1
        # Slow answers to what was asked in time count as well, or latencies would look better than they are.
        if self.begin <= asked:
            self.latencies.append(now - asked)


async def measure(
    target: str, load: Load, seconds: float, warm_up: float, rate: float, protocol: Protocol = STEERSMAN
) -> Measurement:
    """Puts a load on a target and measures.

    Args:
        target: `host:port` of a gRPC server, or an HTTP URL.
        load: The load.
        seconds: How long to measure.
        warm_up: How long to warm up before.
        rate: Requests per second, for loads with a fixed rate.
        protocol: What a gRPC server is spoken to in.
    """
    clock = _Clock(warm_up, seconds)
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    if target.startswith("http"):
        await _http(target, load, clock)
    else:
        async with Channel(target) as channel:
            if load.kind == "stream":
                in_flight = load.concurrency // load.streams
                await asyncio.gather(*(_stream(channel, load, in_flight, clock, protocol) for _ in range(load.streams)))
            else:
                await _unary(channel, load, clock, rate, protocol)
    spent = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = spent.ru_utime + spent.ru_stime - cpu.ru_utime - cpu.ru_stime
    latencies_ms = None
    if clock.latencies:
        p50, p99 = np.percentile(clock.latencies, [50, 99]) * 1000
        latencies_ms = float(p50), float(p99)
    return Measurement(clock.answers, seconds, latencies_ms, cpu_seconds, clock.answered, clock.errors)


async def _unary(channel: Channel, load: Load, clock: _Clock, rate: float, protocol: Protocol) -> None:
    request = protocol.request(load)
    # Ray Serve's ingress wants to be told the application; others ignore it.
    metadata = (("application", load.policy),)

    async def ask() -> None:
        await channel.unary(protocol.unary_method, request, metadata=metadata, timeout=_TIMEOUT_SECONDS)

    if load.kind == "rate":
        await _at_rate(ask, load, clock, rate)
    else:
        await _closed_loop(ask, load, clock)


async def _closed_loop(ask: Callable[[], Awaitable[object]], load: Load, clock: _Clock) -> None:
    async def caller() -> None:
        while (asked := time.perf_counter()) < clock.end:
            try:
                await ask()
            except (CallError, aiohttp.ClientError, TimeoutError):
                clock.errors += 1
                # A server that refuses at once would be asked as fast as the generator can.
                await asyncio.sleep(_PAUSE_AFTER_ERROR_SECONDS)
                continue
            clock.count(asked, time.perf_counter())

    await asyncio.gather(*(caller() for _ in range(load.concurrency)))


async def _at_rate(ask: Callable[[], Awaitable[object]], load: Load, clock: _Clock, rate: float) -> None:
    """Sends at fixed times, whether or not answers have come; latency counts from when a request was due."""
    due_times = asyncio.Queue[float]()

    async def caller() -> None:
        while (due := await due_times.get()) < clock.end:
            try:
                await ask()
            except CallError:
                clock.errors += 1
            else:
                clock.count(due, time.perf_counter())

    callers = [asyncio.create_task(caller()) for _ in range(load.concurrency)]
    tick = asyncio.Event()
    ticking = threading.Thread(target=_tick, args=(asyncio.get_running_loop(), tick.set, clock.end), daemon=True)
    ticking.start()
    due = time.perf_counter()
    while due < clock.end:
        while due > time.perf_counter():
            tick.clear()
            await tick.wait()
        due_times.put_nowait(due)
        due += 1 / rate
    for _ in callers:
        due_times.put_nowait(clock.end)
    await asyncio.gather(*callers)


def _tick(loop: asyncio.AbstractEventLoop, tick: Callable[[], None], end: float) -> None:
    """Calls something in the loop again and again. The loop's own timers are a millisecond coarse."""
    while time.perf_counter() < end:
        time.sleep(_TICK_SECONDS)
        loop.call_soon_threadsafe(tick)


async def _stream(channel: Channel, load: Load, in_flight: int, clock: _Clock, protocol: Protocol) -> None:
    call = await channel.stream(protocol.stream_method, metadata=(("application", load.policy),))
    numbers = range(1, in_flight + 1)
    messages = {number: protocol.message(load, number) for number in numbers}
    free = asyncio.Queue[int]()
    for number in numbers:
        free.put_nowait(number)
    asked: dict[int, float] = {}

    async def send() -> None:
        while time.perf_counter() < clock.end:
            number = await free.get()
            asked[number] = time.perf_counter()
            call.send(messages[number])
        call.half_close()

    sending = asyncio.create_task(send())
    try:
        while (message := await call.read()) is not None:
            answered, is_answer = protocol.answered(message)
            number = next(iter(asked)) if answered is None else answered
            sent = asked.pop(number)
            # An answer that is an error must not pass for a quick one.
            if is_answer:
                clock.count(sent, time.perf_counter())
            else:
                clock.errors += 1
            free.put_nowait(number)
    except CallError:
        pass  # what it left unanswered is counted below
    finally:
        # A stream that ends too early must not leave the sender waiting for an answer.
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    clock.errors += len(asked)


async def _http(url: str, load: Load, clock: _Clock) -> None:
    array = [float(number) for number in np.random.default_rng(0).integers(0, 100, 4)]
    body = json.dumps({"array": array}).encode()
    headers = {"Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(limit=load.concurrency)
    timeout = aiohttp.ClientTimeout(_TIMEOUT_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def ask() -> None:
            async with session.post(url, data=body, headers=headers) as response:
                response.raise_for_status()
                await response.read()

        await _closed_loop(ask, load, clock)


def main() -> None:
    """Runs the generator."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("load", choices=LOADS)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--warm-up", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--protocol", choices=PROTOCOLS, default=STEERSMAN.name)
    arguments = parser.parse_args()
    load = LOADS[arguments.load]
    # A collector that walks through everything stops the generator for up to 44 ms, which would count as latency.
    gc.disable()
    protocol = PROTOCOLS[arguments.protocol]
    measured = uvloop.run(
        measure(arguments.target, load, arguments.seconds, arguments.warm_up, arguments.rate, protocol)
    )
    print(json.dumps(asdict(measured)))  # noqa: T201 - the result


if __name__ == "__main__":
    main()
