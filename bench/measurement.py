"""Puts a load on a system and measures: what it answered, how soon, and what that cost."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

from bench.correctness import wait_for_right_answer
from bench.loads import Load
from bench.models import Models
from bench.protocols import STEERSMAN, Protocol
from bench.results import Samples
from bench.systems.system import System


def measure(system: System, load: Load, seconds: float, samples: Samples, models: Models, rate: float = 0.0) -> float:
    """Puts one load on a system; gives the requests per second that it answered."""
    target = system.target(load)
    if target is None:
        return 0.0
    wait_for_right_answer(target, load, models, system.protocol)
    before, batches_before = _cpu(system.processes()), system.batches(load)
    measured = generate(target, load, seconds, rate, system.protocol)
    processes = system.processes()
    after, batches_after = _cpu(processes), system.batches(load)
    requests_per_s: float = measured["requests"] / measured["seconds"]

    def add(metric: str, value: float) -> None:
        samples.add(load.name, system.name, metric, value)

    add("actions_per_s", requests_per_s)
    add("observations_per_s", requests_per_s * (load.observations or 1))
    add("failed_requests", measured["errors"])
    if measured["latencies_ms"]:
        add("p50_ms", measured["latencies_ms"][0])
        add("p99_ms", measured["latencies_ms"][1])
    # CPU time is taken around the whole run of the generator, so it is divided by all that was answered in it.
    answered = max(1, measured["answered"])
    for name, cpu in after.items():
        add(f"cpu_s_per_1000_actions.{name}", (cpu - before.get(name, 0.0)) / answered * 1000)
        if name == "gateway":
            add("gateway_cpu_us", (cpu - before.get(name, 0.0)) / answered * 1e6)
        add(f"rss_mb.{name}", sum(process.memory_info().rss for process in processes[name]) / 1e6)
    add("cpu_s_per_1000_actions.generator", measured["cpu_seconds"] / answered * 1000)
    if batches_before and batches_after and batches_after[0] > batches_before[0]:
        size = (batches_after[1] - batches_before[1]) / (batches_after[0] - batches_before[0])
        add("mean_batch_size", size)
    return requests_per_s


def generate(
    target: str, load: Load, seconds: float, rate: float = 0.0, protocol: Protocol = STEERSMAN
) -> dict[str, Any]:
    """Runs the generator in a process of its own, and gives what it measured."""
    command = [sys.executable, "-m", "bench.generator", target, load.name, str(seconds)]
    command += ["--rate", str(rate), "--protocol", protocol.name]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 90, check=False)
    if finished.returncode:
        raise RuntimeError(f"the generator failed under {load.name}: {finished.stderr[-2000:]}")
    measured: dict[str, Any] = json.loads(finished.stdout)
    return measured


def _cpu(processes: Mapping[str, Sequence[psutil.Process]]) -> dict[str, float]:
    """Adds up the CPU seconds of processes by what they are."""
    return {name: sum(sum(process.cpu_times()[:2]) for process in group) for name, group in processes.items()}
