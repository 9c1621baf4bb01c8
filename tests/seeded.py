"""Environments of which each reset has the next seed of a list, whoever resets them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium


class Seeded(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Resets with seeds of its own, for those who step vector environments and give a seed only once.

    Args:
        env: The environment.
        seeds: Of its episodes; those that come after them have none.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], seeds: Iterable[int]) -> None:
        super().__init__(env)
        self._seeds = iter(seeds)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self.env.reset(seed=next(self._seeds, None))
