"""Steersman, spoken to in the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psutil

from bench.loads import Load
from bench.models import Models
from bench.protocols import OPEN_INFERENCE
from bench.systems.steersman import Steersman
from bench.systems.system import System


class OpenInference(System):
    """The same gateway and replica as another system's, which starts and stops them.

    Args:
        steersman: That system.
    """

    name = "oip"
    protocol = OPEN_INFERENCE

    def __init__(self, steersman: Steersman) -> None:
        self._steersman = steersman

    def start(self, models: Models) -> None:
        """Has been started."""

    def stop(self) -> None:
        """Will be stopped."""

    def target(self, load: Load) -> str:
        """Takes every load."""
        return self._steersman.target(load)

    def processes(self) -> Mapping[str, Sequence[psutil.Process]]:
        """Is the same processes."""
        return self._steersman.processes()

    def batches(self, load: Load) -> tuple[int, int] | None:
        """Asks the gateway."""
        return self._steersman.batches(load)
