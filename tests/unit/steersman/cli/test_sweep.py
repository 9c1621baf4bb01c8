from __future__ import annotations

import pytest
from google.protobuf import json_format

from steersman.cli.sweep import Scheduler, parse_sweep, trial_rows
from steersman.errors import InvalidArgumentError
from steersman.v1 import trainer_pb2
from steersman.v1.trainer_pb2 import Iteration, Run, Trial


def test_spaces() -> None:
    search = [
        "lr=loguniform(1e-4, 1e-2)",
        "gamma=uniform(0.9,1)",
        "hidden_layers=grid([32], [64, 64])",
        'activation=choice("tanh", "relu")',
    ]
    assert json_format.MessageToDict(parse_sweep(search, 3, 2, None), preserving_proto_field_name=True) == {
        "parameters": {
            "lr": {"loguniform": {"low": 1e-4, "high": 1e-2}},
            "gamma": {"uniform": {"low": 0.9, "high": 1.0}},
            "hidden_layers": {"grid": [[32.0], [64.0, 64.0]]},
            "activation": {"choice": ["tanh", "relu"]},
        },
        "num_samples": 3,
        "max_concurrent_trials": 2,
    }


@pytest.mark.parametrize(
    ("scheduler", "field"), [(Scheduler.ASHA, "successive_halving"), (Scheduler.PBT, "population"), (None, None)]
)
def test_schedulers(scheduler: Scheduler | None, field: str | None) -> None:
    assert parse_sweep(["lr=grid(1)"], 0, 0, scheduler).WhichOneof("scheduler") == field


@pytest.mark.parametrize("pair", ["lr", "lr=0.1", "lr=normal(0, 1)", "lr=uniform(1)", "lr=uniform(a, b)", "lr=grid(1"])
def test_what_is_no_space(pair: str) -> None:
    with pytest.raises(InvalidArgumentError, match="lr"):
        parse_sweep([pair], 0, 0, None)


def test_rows_of_trials() -> None:
    run = Run(best_trial=2)
    for number, state, error in (
        (1, trainer_pb2.RUN_STATE_FAILED, "it broke"),
        (2, trainer_pb2.RUN_STATE_SUCCEEDED, ""),
    ):
        trial = Trial(number=number, state=state, error=error, latest=Iteration(steps=1000, evaluated_return=9.5))
        trial.settings.update({"lr": 0.00123456, "activation": "tanh"})
        run.trials.append(trial)
    assert trial_rows(run) == [
        (1, 'activation="tanh", lr=0.001235', "failed", "1,000", "it broke"),
        ("2 *", 'activation="tanh", lr=0.001235', "succeeded", "1,000", "9.5 evaluated"),
    ]
