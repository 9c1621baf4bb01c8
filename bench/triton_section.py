"""Section `triton`: the gateway and a replica against servers in C++ and in Python, under the same loads.

What each microsecond buys: `floor` and `floor-native` compute inline, without a gateway, a queue or a second process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil

from bench.loads import TRITON_LOADS, Load
from bench.measurement import measure
from bench.models import Models, write_models
from bench.plan import Plan
from bench.results import Row, Samples
from bench.serve_section import measure_gateway
from bench.systems.floor import Floor
from bench.systems.floor_native import FloorNative
from bench.systems.ray_serve import ray_serve_systems
from bench.systems.steersman import Steersman
from bench.systems.system import System
from bench.systems.triton import Triton, TritonMissingError
from bench.targets import Target
from steersman.settings import settings

SECTION = "triton"
_ATTEMPTS = 8

TARGETS = (
    Target("unary-32", "actions_per_s", "floor", 2.5),
    Target("unary-32", "actions_per_s", "triton", 1.0),
    Target("unary-32", "actions_per_s", "serve-grpc-best", 4.0),
    Target("unary-1", "p50_ms", "floor", 0.8, at_least=False),
    Target("unary-1", "p50_ms", "triton", 0.9, at_least=False),
    Target("unary-1", "p50_ms", "serve-grpc-best", 0.4, at_least=False),
    Target("stream-32", "actions_per_s", "floor", 2.0),
    Target("stream-32", "actions_per_s", "triton", 1.5),
    Target("stream-32", "actions_per_s", "serve-grpc-best", 4.0),
    Target("vector-64", "observations_per_s", "floor", 3.0),
    Target("vector-64", "observations_per_s", "triton", 1.0),
    Target("half-peak", "p99_ms", None, 3.0, at_least=False),
    Target("gateway", "ready_s", None, 1.2, at_least=False),
    Target("gateway", "rss_mb", None, 100.0, at_least=False),
)

NOTES = (
    "floor is grpc.aio with uvloop and floor-native our own gRPC layer; both compute inline, in one process.",
    "Triton runs the same model in its Python back end, in batches that it gathers, and is asked in its own protocol.",
    "Triton 2.51 crashes in every third run or so of a stream; such runs are repeated and not counted.",
    "The generator shares the processors with the system that it measures, the same for all.",
)


def run(plan: Plan, tell: Callable[[str], None]) -> list[Row]:
    """Runs the section; without Triton where it cannot be had.

    Args:
        plan: What to measure.
        tell: Told what happens.
    """
    samples = Samples(SECTION)
    triton = Triton(settings().var_dir.resolve() / "triton")
    serve_best = next(system for system in ray_serve_systems() if system.name == "serve-grpc-best")
    systems: list[System] = [Floor(), FloorNative(), Steersman(), triton, serve_best]
    chosen = [system for system in systems if not plan.systems or system.name in plan.systems]
    if triton in chosen:
        tell("getting Triton, a minute the first time")
        try:
            triton.fetch()
        except TritonMissingError as error:
            tell(f"going on without Triton: {error}")
            chosen.remove(triton)
    loads = [load for load in TRITON_LOADS if not plan.loads or load.name in plan.loads]
    with tempfile.TemporaryDirectory() as folder:
        models = write_models(Path(folder))
        for turn in range(1, plan.turns + 1):
            for system in chosen:
                tell(f"turn {turn} of {plan.turns}: starting {system.name}")
                try:
                    system.start(models)
                    for load in loads:
                        tell(f"turn {turn} of {plan.turns}: {system.name} under {load.name}")
                        _measure_alive(system, load, plan, samples, models)
                    if isinstance(system, Steersman):
                        measure_gateway(system, plan, samples, models)
                finally:
                    system.stop()
    return samples.rows()


def _measure_alive(system: System, load: Load, plan: Plan, samples: Samples, models: Models) -> None:
    """Measures; once more where the system has died of the load, so that what is compared with is at its best.

    Raises:
        RuntimeError: If it dies every time.
    """
    for _ in range(_ATTEMPTS):
        found = Samples(SECTION)
        try:
            measure(system, load, plan.seconds, found, models)
        except (RuntimeError, psutil.Error):
            if not system.has_died:
                raise
        if not system.has_died:
            samples.take(found)
            return
        system.stop()
        system.start(models)
    raise RuntimeError(f"expected {system.name} to live through {load.name}, but it died {_ATTEMPTS} times")
