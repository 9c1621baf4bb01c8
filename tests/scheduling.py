"""Which tests pytest's workers take first, and which stay together in one worker.

Most modules stay together, since their tests share fixtures such as a gateway. Tests that only share what all workers
share are taken one by one. What takes longest begins first, so that at the end no worker waits for another.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import pytest
from xdist.scheduler import LoadScopeScheduling

_STACK = (
    "tests/integration/services/trainer/test_life.py",
    "tests/integration/services/trainer/test_failures.py",
    "tests/integration/services/trainer/test_sweeps.py",
    "tests/integration/services/trainer/test_own_code.py",
    "tests/integration/services/trainer/api/test_service.py",
)
"""Modules of slow tests that share nothing but the stack: each test is taken by itself."""

_SLOW = (
    "tests/end_to_end/test_documentation.py",
    # Between those that need the stack, so that not all workers wait for its start.
    "tests/integration/services/trainer/test_outages.py",
    "tests/integration/services/trainer/test_parity.py",
    "tests/integration/services/trainer/export/test_bundle_export.py",
    *_STACK,
    "tests/end_to_end",
    "tests/integration/faults",
    "tests/integration/loadtest",
    "tests/integration/services/gateway/test_foreign_applications.py",
    "tests/integration/services/gateway/test_autoscaling.py",
    "tests/integration/services/gateway/test_nodes.py",
    "tests/integration/services/gateway/test_deployments.py",
    "tests/integration/steersman",
    "tests/integration/services/trainer",
    "tests/integration",
    "tests/compliance",
    "tests/unit/services/policy/test_autoscaling.py",
    "tests/unit/deploy",
)
"""Folders and modules, slowest first; everything else comes after them."""


class SlowestFirst(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Hands out modules, or single tests, in the order in which they were collected."""

    def schedule(self) -> None:
        """Begins to hand out."""
        self.config.option.loadscopereorder = False
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        """Gives the name of what stays together with a test."""
        module, _, _ = nodeid.partition("::")
        return nodeid if module in _STACK else module


def slowest_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Sorts tests, each module's in the order in which they are.

    Args:
        items: The tests.
    """
    return sorted(items, key=lambda item: _rank(item.nodeid))


def _rank(nodeid: str) -> int:
    module = PurePosixPath(nodeid.partition("::")[0])
    places = (rank for rank, place in enumerate(_SLOW) if module.is_relative_to(place))
    return next(places, len(_SLOW))
