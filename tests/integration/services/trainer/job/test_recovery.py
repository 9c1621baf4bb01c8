"""Trials whose process is lost go on; those that raise do not. With a real Tune, without RLlib."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from services.trainer.job.recovery import LOST_PROCESSES, Recovery
from services.trainer.job.stall import StallGuard
from services.trainer.job.whole_files import whole_files

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("local_ray"), pytest.mark.timeout(120)]


class Failing(tune.Trainable):  # type: ignore[misc] # Ray has no types
    """Counts iterations; fails in the third one of the first `times` lives of its process."""

    def setup(self, config: dict[str, Any]) -> None:
        self.count, self.config = 0, config
        self.lives = Path(config["folder"]) / "lives"
        self.lives.write_text(self.lives.read_text() + "x" if self.lives.exists() else "x")

    def step(self) -> dict[str, Any]:
        self.count += 1
        if self.count == 3 and len(self.lives.read_text()) <= self.config["times"]:
            if self.config["how"] == "raise":
                raise ValueError("it is broken")
            os._exit(1)
        return {"count": self.count, "done": self.count == 4}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        (Path(checkpoint_dir) / "count").write_text(str(self.count))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        self.count = int((Path(checkpoint_dir) / "count").read_text())


def fit(folder: Path, how: str, times: int) -> tuple[Any, int, list[str]]:
    """Gives Tune's result, how many processes there were, and what was said."""
    said: list[str] = []
    config = tune.RunConfig(
        storage_path=str(folder / "tune"),
        storage_filesystem=whole_files(),
        checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        callbacks=[StallGuard(60.0), Recovery(warn=said.append)],
        verbose=0,
    )
    space = {"folder": str(folder), "how": how, "times": times}
    (result,) = tune.Tuner(Failing, param_space=space, run_config=config).fit()
    return result, len((folder / "lives").read_text()), said


def test_a_trial_that_lost_its_process_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    result, lives, said = fit(tmp_path, "exit", times=1)
    assert result.error is None
    assert result.metrics["count"] == 4
    assert lives == 2
    assert result.metrics["iterations_since_restore"] == 2, "the first two were not done again"
    assert "a process of the run was lost" in said[0]


@pytest.mark.long
def test_it_does_so_only_so_often(tmp_path: Path) -> None:
    result, lives, _ = fit(tmp_path, "exit", times=100)
    assert result.error is not None
    assert lives == 1 + LOST_PROCESSES


def test_what_a_trial_raises_ends_it(tmp_path: Path) -> None:
    result, lives, said = fit(tmp_path, "raise", times=1)
    assert "it is broken" in str(result.error)
    assert (lives, said) == (1, [])
