"""Section `serve`: Steersman against what people would use instead, taking turns, under the same loads."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.loads import HALF_PEAK, SERVE_LOADS, Load
from bench.models import Models, write_models
from bench.results import Row, Samples
from bench.systems.floor import Floor
from bench.systems.ray_serve import ray_serve_systems
from bench.systems.steersman import Steersman
from bench.systems.system import System

SECTION = "serve"
MILLION = 1_000_000


@dataclass(frozen=True)
class Target:
    """What the ratios of one run must show.

    Attributes:
        load: The load.
        metric: The metric.
        against: The system that Steersman is compared with.
        bound: The ratio.
        at_least: Whether the ratio must be at least the bound; else at most.
    """

    load: str
    metric: str
    against: str
    bound: float
    at_least: bool = True


TARGETS = (
    Target("unary-32", "actions_per_s", "floor", 0.80),
    Target("unary-32", "actions_per_s", "serve-grpc-best", 2.0),
    Target("unary-32", "actions_per_s", "serve-grpc", 8.0),
    Target("unary-1", "p50_ms", "floor", 1.6, at_least=False),
    Target("unary-1", "p50_ms", "serve-grpc-best", 0.35, at_least=False),
    Target("unary-1", "p50_ms", "serve-grpc", 0.2, at_least=False),
    Target("stream-32", "actions_per_s", "floor", 0.95),
    Target("stream-32", "actions_per_s", "serve-grpc-best", 2.5),
    Target("stream-32", "actions_per_s", "serve-grpc", 12.0),
    Target("vector-64", "observations_per_s", "floor", 0.85),
)


@dataclass(frozen=True)
class Plan:
    """How long to measure what.

    Attributes:
        turns: How often each system has its turn.
        seconds: How long each load is measured in a turn.
        systems: Names of the systems; empty for all.
        loads: Names of the loads; empty for all.
        million: Whether the gateway's memory is followed over a million requests as well.
    """

    turns: int = 3
    seconds: float = 3.0
    systems: frozenset[str] = frozenset()
    loads: frozenset[str] = frozenset()
    million: bool = False


def run(plan: Plan, tell: Callable[[str], None]) -> list[Row]:
    """Runs the section.

    One system runs at a time: idle processes of another would still take time from two cores.

    Args:
        plan: What to measure.
        tell: Told what happens.
    """
    samples = Samples(SECTION)
    systems: list[System] = [Floor(), Steersman(), *ray_serve_systems()]
    chosen = [system for system in systems if not plan.systems or system.name in plan.systems]
    loads = [load for load in SERVE_LOADS if not plan.loads or load.name in plan.loads]
    with tempfile.TemporaryDirectory() as folder:
        models = write_models(Path(folder))
        for turn in range(1, plan.turns + 1):
            for system in chosen:
                tell(f"turn {turn} of {plan.turns}: starting {system.name}")
                try:
                    system.start(models)
                    for load in loads:
                        tell(f"turn {turn} of {plan.turns}: {system.name} under {load.name}")
                        _measure(system, load, plan.seconds, samples)
                    if isinstance(system, Steersman):
                        _measure_gateway(system, plan, samples)
                finally:
                    system.stop()
        if plan.million:
            _follow_a_million(models, samples, tell)
    return samples.rows()


def _measure(system: System, load: Load, seconds: float, samples: Samples, rate: float = 0.0) -> float:
    """Puts one load on a system; gives the requests per second that it answered."""
    target = system.target(load)
    if target is None:
        return 0.0
    before, batches_before = _cpu(system.processes()), system.batches(load)
    measured = _generate(target, load, seconds, rate)
    processes = system.processes()
    after, batches_after = _cpu(processes), system.batches(load)
    if measured["errors"]:
        raise RuntimeError(f"{system.name} failed {measured['errors']} requests under {load.name}")
    requests_per_s: float = measured["requests"] / measured["seconds"]
    p50, p99 = measured["latencies_ms"]

    def add(metric: str, value: float) -> None:
        samples.add(load.name, system.name, metric, value)

    add("actions_per_s", requests_per_s)
    add("observations_per_s", requests_per_s * (load.observations or 1))
    add("p50_ms", p50)
    add("p99_ms", p99)
    # The warm-up costs as well, and counts: a little over the measured time.
    answered = max(1, measured["requests"])
    for name, cpu in after.items():
        add(f"cpu_s_per_1000_actions.{name}", (cpu - before.get(name, 0.0)) / answered * 1000)
        add(f"rss_mb.{name}", sum(process.memory_info().rss for process in processes[name]) / 1e6)
    add("cpu_s_per_1000_actions.generator", measured["cpu_seconds"] / answered * 1000)
    if batches_before and batches_after and batches_after[0] > batches_before[0]:
        size = (batches_after[1] - batches_before[1]) / (batches_after[0] - batches_before[0])
        add("mean_batch_size", size)
    return requests_per_s


def _measure_gateway(system: Steersman, plan: Plan, samples: Samples) -> None:
    """Measures what is asked of the gateway itself: ready in time, small, and quick at half of its peak."""
    peak = _measure(system, SERVE_LOADS[1], plan.seconds, Samples(SECTION))
    _measure(system, HALF_PEAK, plan.seconds, samples, rate=peak / 2)
    (gateway,) = system.processes()["gateway"]
    samples.add("gateway", system.name, "ready_s", system.ready_seconds)
    samples.add("gateway", system.name, "rss_mb", gateway.memory_info().rss / 1e6)


def _follow_a_million(models: Models, samples: Samples, tell: Callable[[str], None]) -> None:
    """Follows the gateway's memory over a million requests, after a warm-up."""
    system = Steersman()
    try:
        system.start(models)
        stream = SERVE_LOADS[3]
        _generate(system._address, stream, 10.0, 0.0)  # noqa: SLF001 - the address is the target of every load
        (gateway,) = system.processes()["gateway"]
        before = gateway.memory_info().rss
        done = 0
        while done < MILLION:
            tell(f"a million requests: {done:,}, gateway at {gateway.memory_info().rss / 1e6:.1f} MB")
            done += _generate(system._address, stream, 20.0, 0.0)["requests"]  # noqa: SLF001
        growth = (gateway.memory_info().rss - before) / 1e6
        samples.add("gateway", system.name, "rss_slope_mb_per_million", growth * MILLION / done)
        samples.add("gateway", system.name, "rss_mb_after_a_million", gateway.memory_info().rss / 1e6)
    finally:
        system.stop()


def _generate(target: str, load: Load, seconds: float, rate: float) -> dict[str, Any]:
    """Runs the generator in a process of its own."""
    command = [sys.executable, "-m", "bench.generator", target, load.name, str(seconds), "--rate", str(rate)]
    for attempt in (1, 2):
        finished = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 90, check=False)
        if finished.returncode == 0:
            measured: dict[str, Any] = json.loads(finished.stdout)
            return measured
        time.sleep(attempt)
    raise RuntimeError(f"the generator failed under {load.name}: {finished.stderr[-2000:]}")


def _cpu(processes: Mapping[str, Sequence[psutil.Process]]) -> dict[str, float]:
    """Adds up the CPU seconds of processes by what they are."""
    return {name: sum(sum(process.cpu_times()[:2]) for process in group) for name, group in processes.items()}
