"""A replica in a process of its own, that can be killed, stopped, slowed down and poisoned."""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from pathlib import Path

import numpy as np

from services.common.bundle import read_bundle
from services.common.server import wait_for_stop_signal
from services.policy.replica import Replica
from services.policy.runtime import GREEDY, Choice, PolicyRuntime, Tensors

POISON = 666.0
"""An observation whose first tensor begins with this number kills a replica that is poisonable."""

BROKEN = 555.0
"""A batch with an observation whose first tensor begins with this number fails."""


class TouchyRuntime(PolicyRuntime):
    """A version that takes its time, and that some observations kill or break.

    Attributes:
        compute_seconds: What each batch takes longer than it needs.
    """

    compute_seconds = 0.0

    def compute(self, inputs: Tensors, choice: Choice = GREEDY) -> Tensors:
        """Computes a batch, if it survives it."""
        observation = next(iter(inputs.values()))
        first = observation.reshape(len(observation), -1)[:, 0]
        if np.any(first == POISON):
            os._exit(66)
        if np.any(first == BROKEN):
            raise ArithmeticError("this observation cannot be computed")
        time.sleep(self.compute_seconds)
        return super().compute(inputs, choice)


async def serve(arguments: argparse.Namespace) -> None:
    """Serves until the process is told to stop."""

    def load() -> PolicyRuntime:
        runtime = TouchyRuntime(read_bundle(arguments.bundle))
        runtime.compute_seconds = arguments.compute_seconds
        return runtime

    replica = Replica(
        arguments.policy,
        f"process-{os.getpid()}",
        arguments.gateway,
        arguments.max_batch_size,
        arguments.max_message_bytes,
    )
    await replica.load({1: load})
    replica.start()
    await wait_for_stop_signal()
    await replica.leave()


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("policy")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--gateway", action="append", required=True)
    parser.add_argument("--compute-seconds", type=float, default=0.0)
    parser.add_argument("--max-batch-size", type=int, default=256)
    parser.add_argument("--max-message-bytes", type=int, default=64 * 1024 * 1024)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
