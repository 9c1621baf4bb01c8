"""Systems taking turns, each under all loads, so that what else the machine does meanwhile meets all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import psutil

from bench.loads import HALF_PEAK, LOADS, Load
from bench.measurement import measure
from bench.models import Models
from bench.plan import Plan
from bench.results import Samples
from bench.systems.steersman import Steersman
from bench.systems.system import System

_ATTEMPTS = 8


def take_turns(
    systems: Sequence[System],
    loads: Sequence[Load],
    plan: Plan,
    models: Models,
    samples: Samples,
    tell: Callable[[str], None],
) -> None:
    """Measures the systems and loads that the plan names, and the gateway itself.

    One system runs at a time: idle processes of another would still take time from two cores.

    Args:
        systems: What is compared.
        loads: What it is put under.
        plan: What of that to measure, and for how long.
        models: What is served.
        samples: Where the numbers go.
        tell: Told what happens.
    """
    chosen = [system for system in systems if not plan.systems or system.name in plan.systems]
    for turn in range(1, plan.turns + 1):
        for system in chosen:
            tell(f"turn {turn} of {plan.turns}: starting {system.name}")
            try:
                system.start(models)
                for load in loads:
                    if not plan.loads or load.name in plan.loads:
                        tell(f"turn {turn} of {plan.turns}: {system.name} under {load.name}")
                        _measure_alive(system, load, plan, samples, models)
                if isinstance(system, Steersman):
                    _measure_gateway(system, plan, samples, models)
            finally:
                system.stop()


def gateway_megabytes(system: Steersman) -> float:
    """Adds up the resident memory of the gateway's processes."""
    return sum(process.memory_info().rss for process in system.processes()["gateway"]) / 1e6


def _measure_alive(system: System, load: Load, plan: Plan, samples: Samples, models: Models) -> None:
    """Measures; once more where the system has died of the load, so that what is compared with is at its best.

    Raises:
        RuntimeError: If it dies every time.
    """
    for _ in range(_ATTEMPTS):
        found = Samples(samples.section)
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


def _measure_gateway(system: Steersman, plan: Plan, samples: Samples, models: Models) -> None:
    """Measures what is asked of the gateway itself: ready in time, small, and quick at half of its peak."""
    peak = measure(system, LOADS["unary-32"], plan.seconds, Samples(samples.section), models)
    measure(system, HALF_PEAK, plan.seconds, samples, models, rate=peak / 2)
    samples.add("gateway", system.name, "ready_s", system.ready_seconds)
    samples.add("gateway", system.name, "rss_mb", gateway_megabytes(system))
