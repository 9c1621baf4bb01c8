"""A run that goes on sees observations as it did before it was stopped.

See https://github.com/ray-project/ray/issues/54408: restored, the filters of remote environment runners began anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.rllib.connectors.env_to_module import MeanStdFilter
from ray.rllib.utils.filter import RunningStat

from services.trainer import algorithms
from services.trainer.api import validation
from services.trainer.environments.environment_spaces import spaces_of
from steersman.v1 import trainer_pb2

pytestmark = [
    pytest.mark.integration,
    pytest.mark.long,
    pytest.mark.usefixtures("local_ray"),
    pytest.mark.timeout(240),
]


def built() -> Any:  # noqa: ANN401 - RLlib has no types
    """Builds the algorithm of a run with two remote environment runners, as its trial does."""
    asked = trainer_pb2.RunSpec(
        policy="filtered",
        algorithm="PPO",
        environment=trainer_pb2.Environment(id="Pendulum-v1"),
        num_env_runners=2,
        connectors=trainer_pb2.Connectors(normalize=True),
        stop=trainer_pb2.StopCriteria(iterations=3),
    )
    asked.settings.update({"train_batch_size_per_learner": 400, "minibatch_size": 200, "num_epochs": 1})
    spec, _ = validation.complete(asked)
    return algorithms.build_config(spec, spaces_of(spec.environment)).build_algo()


def statistics(algorithm: Any) -> list[tuple[int, list[float]]]:  # noqa: ANN401
    """Gives for each remote environment runner how many observations its filter has seen, and their mean."""

    def of(runner: Any) -> tuple[int, list[float]]:  # noqa: ANN401
        (piece,) = [piece for piece in runner._env_to_module.connectors if isinstance(piece, MeanStdFilter)]
        (state,) = piece.get_state().values()
        (stat,) = map(RunningStat.from_state, state["running_stats"])
        return int(stat.num_pushes), [float(value) for value in np.ravel(stat.mean)]

    found: list[tuple[int, list[float]]] = algorithm.env_runner_group.foreach_env_runner(of, local_env_runner=False)
    return found


def test_restored_runners_filter_as_they_did(tmp_path: Path) -> None:
    first = built()
    try:
        for _ in range(3):
            first.train()
        first.save_to_path(str(tmp_path / "checkpoint"))
        before = statistics(first)
    finally:
        first.stop()
    assert before[0] == before[1]
    assert before[0][0] >= 1200

    second = built()
    try:
        # As Tune's trials do when they go on.
        second.load_checkpoint(str(tmp_path / "checkpoint"))
        assert statistics(second) == before

        second.train()
        after = statistics(second)
    finally:
        second.stop()
    assert after[0][0] >= before[0][0] + 400, "it goes on counting"
