"""Section `serve`: Steersman against what people would use instead, taking turns, under the same loads."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.correctness import wait_for_right_answer
from bench.loads import LOADS, SERVE_LOADS
from bench.measurement import generate
from bench.models import Models, write_models
from bench.plan import Plan
from bench.results import Row, Samples
from bench.systems.floor import Floor
from bench.systems.ray_serve import ray_serve_systems
from bench.systems.steersman import Steersman
from bench.systems.system import System
from bench.targets import Target
from bench.turns import gateway_megabytes, take_turns

SECTION = "serve"
MILLION = 1_000_000
_SETTLE_SECONDS = 10.0
_MILLION_STEP_SECONDS = 10.0


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
    Target("half-peak", "p99_ms", None, 5.0, at_least=False),
    Target("gateway", "ready_s", None, 1.5, at_least=False),
    Target("gateway", "rss_mb", None, 120.0, at_least=False),
    Target("gateway", "rss_mb_after_a_million", None, 120.0, at_least=False),
    # "Flat", with room for what an allocator does.
    Target("gateway", "rss_slope_mb_per_million", None, 2.0, at_least=False),
)


NOTES = (
    (
        "serve-grpc and serve-http-torch are Ray Serve's defaults but for max_ongoing_requests: at its default of 5, "
        "more callers than that send Serve's router into pauses of up to half a second, and it answers about 80 "
        "requests/s. The raised limit is the harder comparison for Steersman."
    ),
    "serve-http-torch computes with torch and weights of its own, as the usual recipe does; all others run one model.",
    "actions_per_s counts requests answered; in vector-64 each carries 64 observations (observations_per_s).",
    (
        "stream-32 is four streams with eight requests in flight each. Over a single stream the floor, which answers "
        "a stream's messages one after the other, mostly waits: a third of its speed, which would flatter Steersman."
    ),
    (
        "The floor, the generator and Steersman all use gRPC's earlier polling (see services/__init__.py), which helps "
        "the floor too, and both servers use uvloop."
    ),
    "The generator shares the processors with the system that it measures, the same for all.",
)


def run(plan: Plan, tell: Callable[[str], None]) -> list[Row]:
    """Runs the section.

    Args:
        plan: What to measure.
        tell: Told what happens.
    """
    samples = Samples(SECTION)
    systems: list[System] = [Floor(), Steersman(), *ray_serve_systems()]
    with tempfile.TemporaryDirectory() as folder:
        models = write_models(Path(folder))
        take_turns(systems, SERVE_LOADS, plan, models, samples, tell)
        if plan.million:
            _follow_a_million(models, samples, tell)
    return samples.rows()


def _follow_a_million(models: Models, samples: Samples, tell: Callable[[str], None]) -> None:
    """Follows the gateway's memory over a million requests, after a warm-up."""
    system, load = Steersman(), LOADS["stream-32"]
    try:
        system.start(models)
        target = system.target(load)
        wait_for_right_answer(target, load, models)
        generate(target, load, _SETTLE_SECONDS)
        done, points = 0, [(0, gateway_megabytes(system))]
        while done < MILLION:
            tell(f"a million requests: {done:,}, gateway at {points[-1][1]:.1f} MB")
            measured = generate(target, load, _MILLION_STEP_SECONDS)
            if not measured["answered"] or measured["errors"]:
                raise RuntimeError(f"expected answers only, got {measured}")
            done += measured["answered"]
            points.append((done, gateway_megabytes(system)))
        samples.add("gateway", system.name, "rss_slope_mb_per_million", slope(points) * MILLION)
        samples.add("gateway", system.name, "rss_mb_after_a_million", points[-1][1])
    finally:
        system.stop()


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Gives the slope of the straight line that fits points best: one number taken late says little of a trend.

    Args:
        points: x and y of at least two points with different x.
    """
    return statistics.linear_regression(*zip(*points, strict=True)).slope
