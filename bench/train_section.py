"""Section `train`: from nothing to a CartPole that returns 450, and from asking for a run to its first iteration."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from bench.plan import Plan
from bench.results import Row, Samples
from bench.targets import Target
from bench.train_overhead import BARE_SCRIPT, seconds_to_first_iteration

SECTION = "train"
CARTPOLE = "cartpole-450"
FIRST_ITERATION = "first-iteration"

SYSTEMS = ("steersman", "rllib-example", "sb3", "sb3-zoo")
"""Each is a name that `bench.train_systems` knows."""

_PROCESS_SECONDS = 600.0

TARGETS = (
    Target(CARTPOLE, "seconds_to_450", "rllib-example", 1.0, at_least=False),
    Target(CARTPOLE, "seconds_to_450", "sb3", 1.0, at_least=False),
    Target(FIRST_ITERATION, "seconds_to_first_iteration", BARE_SCRIPT, 2.0, at_least=False),
)

NOTES = (
    "Turn n trains with seed n. Every second of training, 20 greedy episodes are played, with the clock stopped.",
    "seconds_to_450 counts from the first iteration's start until those episodes return 450 on average.",
    (
        "rllib-example is RLlib's own tuned PPO example for CartPole, with 16 environments in its one runner rather "
        "than 1 in each of two, which is faster on two cores."
    ),
    (
        "sb3 is Stable-Baselines3's PPO with its defaults, as steersman is PPO with Steersman's; sb3-zoo has the "
        "settings that RL Zoo found for CartPole, which are for nothing else."
    ),
    (
        "seconds_to_first_iteration is from the request to the news of the first iteration: for steersman through the "
        "trainer and Ray Jobs on a cluster that runs, for bare-script from the start of a script that starts Ray."
    ),
)


def run(plan: Plan, tell: Callable[[str], None]) -> list[Row]:
    """Runs the section.

    Args:
        plan: What to measure.
        tell: Told what happens.
    """
    samples = Samples(SECTION)
    chosen = [name for name in SYSTEMS if not plan.systems or name in plan.systems]
    if importlib.util.find_spec("stable_baselines3") is None:
        tell("leaving out Stable-Baselines3: pip install 'steersman[bench]' brings it")
        chosen = [name for name in chosen if not name.startswith("sb3")]
    for turn in range(1, plan.turns + 1):
        for system in chosen if not plan.loads or CARTPOLE in plan.loads else ():
            tell(f"turn {turn} of {plan.turns}: {system} learns {CARTPOLE}")
            measured = _measured("bench.train_systems", system, str(turn))
            for metric, value in measured.items():
                samples.add(CARTPOLE, system, metric, value)
    if not plan.loads or FIRST_ITERATION in plan.loads:
        for system, seconds in seconds_to_first_iteration(plan.turns, tell):
            samples.add(FIRST_ITERATION, system, "seconds_to_first_iteration", seconds)
    return samples.rows()


def _measured(module: str, *arguments: str) -> dict[str, Any]:
    """Runs a module in a process of its own, and gives the JSON of its last line.

    Raises:
        RuntimeError: If it fails.
    """
    command = [sys.executable, "-m", module, *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=_PROCESS_SECONDS, check=False)
    if finished.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {finished.stderr[-2000:]}")
    measured: dict[str, Any] = json.loads(finished.stdout.strip().splitlines()[-1])
    return measured
