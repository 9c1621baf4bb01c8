from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, PopulationBasedTraining
from ray.tune.search.variant_generator import generate_variants

from services.trainer.job.sweeps.search import _keep_within, param_space, scheduler
from steersman.v1.trainer_pb2 import RunSpec
from tests.unit.services.trainer.job.sweeps.test_request import LR, searched


def drawn(parameters: dict[str, Any], times: int = 50) -> list[dict[str, Any]]:
    """Draws trials as Tune does."""
    space = param_space(searched({"parameters": parameters}))
    return [found for _ in range(times) for _, found in generate_variants(space)]


def test_a_run_without_a_sweep_has_nothing_to_draw() -> None:
    assert param_space(RunSpec(algorithm="PPO")) == {}
    assert isinstance(scheduler(RunSpec(algorithm="PPO")), FIFOScheduler)


def test_grids_are_gone_through() -> None:
    found = drawn({"lr": {"grid": [0.1, 0.2]}, "hidden_layers": {"grid": [[8], [9, 9]]}}, times=1)
    assert sorted((entry["lr"], entry["hidden_layers"]) for entry in found) == [
        (0.1, [8]),
        (0.1, [9, 9]),
        (0.2, [8]),
        (0.2, [9, 9]),
    ]


def test_ranges_and_choices_are_drawn_from() -> None:
    found = drawn(
        {
            "lr": {"loguniform": {"low": 1e-4, "high": 1e-2}},
            "gamma": {"uniform": {"low": 0.9, "high": 1}},
            "num_epochs": {"uniform": {"low": 1, "high": 3}},
            "minibatch_size": {"loguniform": {"low": 32, "high": 64}},
            "activation": {"choice": ["tanh", "relu"]},
        }
    )
    assert all(1e-4 <= entry["lr"] <= 1e-2 and 0.9 <= entry["gamma"] <= 1 for entry in found)
    assert {entry["num_epochs"] for entry in found} == {1, 2, 3}, "both ends, and whole numbers"
    assert all(isinstance(entry["minibatch_size"], int) and 32 <= entry["minibatch_size"] <= 64 for entry in found)
    assert {entry["activation"] for entry in found} == {"tanh", "relu"}


@pytest.mark.parametrize(
    ("described", "kind"),
    [
        ({"successive_halving": {}}, AsyncHyperBandScheduler),
        ({"population": {}, "num_samples": 4}, PopulationBasedTraining),
    ],
)
def test_schedulers(described: dict[str, Any], kind: type) -> None:
    assert isinstance(scheduler(searched({"parameters": LR} | described)), kind)


@given(value=st.floats(-10, 10))
def test_changed_settings_stay_within_their_ranges(value: float) -> None:
    bounded = _keep_within({"lr": (0.5, 2.0)})({"lr": value, "other": value})
    assert 0.5 <= bounded["lr"] <= 2.0
    assert bounded["other"] == value
    assert bounded["lr"] == value or not 0.5 <= value <= 2.0
