"""Section `model`: a bundle's model against RLlib's own ways to compute the same actions, in one process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.plan import Plan
from bench.results import Row, Samples
from bench.targets import Target

SECTION = "model"
KINDS = ("mlp", "cnn", "lstm")
BATCH_SIZES = (1, 32, 256)
LOADS = {f"{kind}-{size}": (kind, size) for kind in KINDS for size in BATCH_SIZES}

_METRIC = "us_per_observation"

TARGETS = (
    Target("mlp-1", _METRIC, "rllib-connectors", 0.1, at_least=False, ours="bundle"),
    *(Target(load, _METRIC, "rllib-torch", 1.0, at_least=False, ours="bundle") for load in LOADS),
)

NOTES = (
    "mlp is 4-64-64-2 with tanh, cnn RLlib's default for 84x84x4 images of float32, lstm the mlp with a cell of 64.",
    "bundle is what a replica computes: the greedy action and the next state, from arrays to arrays.",
    "rllib-torch is the module's inference forward from tensor to tensor and the argmax, without connectors.",
    "rllib-connectors is RLlib's way from episodes to actions: env-to-module pieces, forward, module-to-env pieces.",
    "All have one thread.",
)


def run(plan: Plan, tell: Callable[[str], None]) -> list[Row]:
    """Runs the section.

    Args:
        plan: What to measure.
        tell: Told what happens.
    """
    tell("importing RLlib")
    # Takes seconds, which the other sections need not wait for.
    import torch

    from bench.model_systems import SYSTEMS, make_policy

    torch.set_num_threads(1)
    samples = Samples(SECTION)
    loads = {name: load for name, load in LOADS.items() if not plan.loads or name in plan.loads}
    chosen = {name: make for name, make in SYSTEMS.items() if not plan.systems or name in plan.systems}
    policies = {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in {kind for kind, _ in loads.values()}:
            tell(f"building and exporting {kind}")
            policies[kind] = make_policy(kind, Path(folder) / kind)
        for turn in range(1, plan.turns + 1):
            for load, (kind, size) in loads.items():
                for system, make in chosen.items():
                    tell(f"turn {turn} of {plan.turns}: {system} under {load}")
                    seconds = _seconds_per_call(make(policies[kind], size), plan.seconds / 10)
                    samples.add(load, system, _METRIC, seconds / size * 1e6)
    return samples.rows()


def _seconds_per_call(compute: Callable[[], object], seconds: float) -> float:
    """Calls a function over and over; the first calls only warm it up."""
    for _ in range(3):
        compute()
    calls, began = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - began) < seconds or not calls:
        compute()
        calls += 1
    return elapsed / calls
