"""The plan of a trial: what it has to know of its run, and where it leaves things."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.trainer.job.publishing import Export
from steersman.v1 import trainer_pb2


@dataclass(frozen=True)
class Plan:
    """What a trial has to know of its run.

    Attributes:
        run: The run: its id, its spec with the defaults filled in, its commit.
        folder: Where the run may leave things, absolute.
        start: The checkpoint to start from; None to start anew.
        trial: The number of the trial in a sweep; 0 for a run's only one.
    """

    run: trainer_pb2.Run
    folder: Path
    start: Path | None = None
    trial: int = 0

    @property
    def memory(self) -> Path:
        """The iteration of the last checkpoint, as JSON."""
        return self.folder / "latest.json"

    def exported(self, iteration: trainer_pb2.Iteration) -> Export:
        """Tells where the export of an iteration lies."""
        folder = self.folder / "exports" / f"{iteration.iteration:06d}"
        return Export(iteration, folder / "bundle", folder / "checkpoint")
