from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.job.sweeps.request import check_sweep, examples, trial_spec, trials_of
from steersman.arguments import plain_values
from steersman.errors import InvalidArgumentError
from steersman.v1.trainer_pb2 import RunSpec, Sweep

LR = {"lr": {"loguniform": {"low": 1e-4, "high": 1e-2}}}


def searched(sweep: dict[str, Any], **fields: Any) -> RunSpec:  # noqa: ANN401 - fields of a spec
    described = {"policy": "p", "algorithm": "PPO", "stop": {"steps": 1000}, "seed": 7} | fields
    return json_format.ParseDict(described | {"sweep": sweep}, RunSpec())


@pytest.mark.parametrize(
    ("sweep", "fields"),
    [
        ({"parameters": LR}, {}),
        ({"parameters": {"fcnet_hiddens": {"grid": [[32], [64, 64]]}, "activation": {"choice": ["relu"]}}}, {}),
        ({"parameters": {"num_epochs": {"uniform": {"low": 1, "high": 9}}}}, {}),
        ({"parameters": LR, "successive_halving": {}}, {}),
        ({"parameters": LR, "population": {}, "num_samples": 2}, {}),
        ({"parameters": LR}, {"settings": {"gamma": 0.9}, "training": {"entropy_coeff": 0.1}}),
    ],
)
def test_sweeps_that_work(sweep: dict[str, Any], fields: dict[str, Any]) -> None:
    check_sweep(searched(sweep, **fields))


@pytest.mark.parametrize(
    ("sweep", "fields", "expected"),
    [
        ({}, {}, "at least one setting"),
        ({"parameters": {"lr": {}}}, {}, "got none"),
        ({"parameters": {"lr": {"grid": []}}}, {}, "at least one value"),
        ({"parameters": {"learning_rate_": {"grid": [1]}}}, {}, "got 'learning_rate_'"),
        ({"parameters": {"gamma": {"choice": ["much"]}}}, {}, "another value for gamma"),
        ({"parameters": {"num_epochs": {"uniform": {"low": 1.5, "high": 3}}}}, {}, "another value for num_epochs"),
        ({"parameters": {"lr": {"uniform": {"low": 2, "high": 1}}}}, {}, "a greater one"),
        ({"parameters": {"lr": {"loguniform": {"low": 0, "high": 1}}}}, {}, "above 0"),
        ({"parameters": LR}, {"training": {"lr": 0.1}}, "got it twice"),
        ({"parameters": {"hidden_layers": {"grid": [[8]]}}}, {"settings": {"fcnet_hiddens": [8]}}, "got it twice"),
        ({"parameters": {"hidden_layers": {"grid": [[8]]}, "fcnet_hiddens": {"grid": [[8]]}}}, {}, "got it twice"),
        ({"parameters": {"num_epochs": {"grid": [1]}}}, {"algorithm": "DQN"}, "a setting that DQN has"),
        ({"parameters": LR, "num_samples": 1001}, {}, "at most 1000 trials, got 1001"),
        ({"parameters": LR}, {"publishing": {"every_iterations": 3}}, "no publishing.every_iterations"),
        ({"parameters": LR, "successive_halving": {}}, {"stop": {"iterations": 3}}, "stop.steps"),
        ({"parameters": LR, "successive_halving": {"reduction_factor": 1}}, {}, "at least 2"),
        ({"parameters": LR, "successive_halving": {"grace_steps": 1001}}, {}, "at most stop.steps"),
        ({"parameters": LR, "population": {}}, {}, "at least 2 trials"),
        ({"parameters": LR, "population": {"quantile": 0.6}, "num_samples": 2}, {}, "quantile"),
        ({"parameters": LR, "population": {"resample_probability": 2}, "num_samples": 2}, {}, "resample_probability"),
        ({"parameters": {"hidden_layers": {"grid": [[8], [9]]}}, "population": {}}, {}, "do not change the network"),
        ({"parameters": LR, "population": {}, "num_samples": 2}, {"algorithm": "BC"}, "learns from recordings"),
    ],
)
def test_sweeps_that_could_not_work(sweep: dict[str, Any], fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidArgumentError, match=expected):
        check_sweep(searched(sweep, **fields))


def test_a_trial_is_a_run_without_a_sweep() -> None:
    spec = searched({"parameters": LR}, settings={"lr": 1, "gamma": 0.5})
    trial = trial_spec(spec, 3, {"lr": 0.01})
    assert not trial.HasField("sweep")
    assert trial.seed == 9
    assert plain_values(trial.settings) == {"lr": 0.01, "gamma": 0.5}


def test_a_typed_setting_is_that_of_every_optimiser() -> None:
    trial = trial_spec(searched({"parameters": LR}, algorithm="SAC"), 1, {"lr": 0.25})
    assert plain_values(trial.settings) == {"actor_lr": 0.25, "critic_lr": 0.25, "alpha_lr": 0.25}


def test_examples_have_every_value_and_both_ends_of_ranges() -> None:
    spec = searched({"parameters": LR | {"hidden_layers": {"grid": [[8], [9], [10]]}}})
    found = [plain_values(example.settings) for example in examples(spec)]
    assert {values["lr"] for values in found} == {1e-4, 1e-2}
    assert {tuple(values["fcnet_hiddens"]) for values in found} == {(8,), (9,), (10,)}
    assert len(found) == 4


def test_a_run_without_a_sweep_is_its_own_example() -> None:
    spec = RunSpec(policy="p", algorithm="PPO", seed=5)
    assert list(examples(spec)) == [spec]


@given(grids=st.lists(st.integers(1, 5), max_size=4), num_samples=st.integers(0, 4))
def test_every_grid_is_gone_through_as_often_as_samples_are_drawn(grids: list[int], num_samples: int) -> None:
    parameters: dict[str, Any] = {f"p{number}": {"grid": list(range(size))} for number, size in enumerate(grids)}
    parameters["drawn"] = {"uniform": {"low": 0, "high": 1}}
    sweep = json_format.ParseDict({"parameters": parameters, "num_samples": num_samples}, Sweep())
    expected = max(1, num_samples)
    for size in grids:
        expected *= size
    assert trials_of(sweep) == expected
