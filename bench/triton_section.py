"""Section `triton`: the gateway and a replica against servers in C++ and in Python, under the same loads.

What each microsecond buys: `floor` and `floor-native` compute inline, without a gateway, a queue or a second process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.loads import TRITON_LOADS
from bench.models import write_models
from bench.plan import Plan
from bench.results import Row, Samples
from bench.systems.floor import Floor
from bench.systems.floor_native import FloorNative
from bench.systems.ray_serve import ray_serve_systems
from bench.systems.steersman import Steersman
from bench.systems.system import System
from bench.systems.triton import Triton, TritonMissingError
from bench.targets import Target
from bench.turns import take_turns
from steersman.settings import settings

SECTION = "triton"

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
    if not plan.systems or triton.name in plan.systems:
        tell("getting Triton, a minute the first time")
        try:
            triton.fetch()
        except TritonMissingError as error:
            tell(f"going on without Triton: {error}")
            systems.remove(triton)
    with tempfile.TemporaryDirectory() as folder:
        take_turns(systems, TRITON_LOADS, plan, write_models(Path(folder)), samples, tell)
    return samples.rows()
