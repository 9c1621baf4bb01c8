"""Section `oip`: one gateway through the Open Inference Protocol and through our own API, under the same loads."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.loads import OIP_LOADS
from bench.measurement import measure
from bench.models import write_models
from bench.plan import Plan
from bench.results import Row, Samples
from bench.systems.open_inference import OpenInference
from bench.systems.steersman import Steersman
from bench.systems.system import System
from bench.targets import Target

SECTION = "oip"

TARGETS = tuple(Target(load.name, "actions_per_s", "steersman", 0.9, ours="oip") for load in OIP_LOADS)

NOTES = (
    "Both systems are one gateway and one replica, measured in turns; only the protocol differs.",
    "stream-128 is four streams with 32 requests in flight each.",
)


def run(plan: Plan, tell: Callable[[str], None]) -> list[Row]:
    """Runs the section.

    Args:
        plan: What to measure.
        tell: Told what happens.
    """
    samples = Samples(SECTION)
    loads = [load for load in OIP_LOADS if not plan.loads or load.name in plan.loads]
    with tempfile.TemporaryDirectory() as folder:
        models = write_models(Path(folder))
        for turn in range(1, plan.turns + 1):
            steersman = Steersman()
            systems: list[System] = [OpenInference(steersman), steersman]
            chosen = [system for system in systems if not plan.systems or system.name in plan.systems]
            tell(f"turn {turn} of {plan.turns}: starting")
            try:
                steersman.start(models)
                for load in loads:
                    # Each goes first in every other turn, as much as a process that gets older may matter.
                    for system in chosen[:: 1 if turn % 2 else -1]:
                        tell(f"turn {turn} of {plan.turns}: {system.name} under {load.name}")
                        measure(system, load, plan.seconds, samples, models)
            finally:
                steersman.stop()
    return samples.rows()
