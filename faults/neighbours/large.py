"""Many large requests at once: `python -m faults.neighbours.large ADDRESS POLICY`.

Every one has to be answered rightly; else it says what was not, and exits with 1.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import numpy as np

from faults.models import QUESTIONS, WIDTH
from steersman.aio import PolicyClient
from steersman.errors import SteersmanError

_REQUESTS = 300
_TIMEOUT_SECONDS = 60.0


async def ask_all(address: str, policy: str) -> Counter[str]:
    """Asks; gives what went wrong, and how often."""
    observations = []
    for small, right in QUESTIONS:
        observation = np.zeros(WIDTH, np.float32)
        observation[: small.size] = small
        observations.append((observation, right))
    wrong: Counter[str] = Counter()
    async with PolicyClient(policy, address=address, timeout=_TIMEOUT_SECONDS) as client:

        async def ask(number: int) -> None:
            observation, right = observations[number % len(observations)]
            try:
                if await client.act(observation) != right:
                    wrong["a wrong action"] += 1
            except SteersmanError as error:
                wrong[f"{type(error).__name__}: {error}"] += 1

        await asyncio.gather(*map(ask, range(_REQUESTS)))
    return wrong


def main() -> None:
    """Asks, and tells."""
    wrong = asyncio.run(ask_all(sys.argv[1], sys.argv[2]))
    if wrong:
        what = "; ".join(f"{times} x {why}" for why, times in wrong.most_common(3))
        sys.exit(f"expected {_REQUESTS} large requests to be answered, got {what}")


if __name__ == "__main__":
    main()
