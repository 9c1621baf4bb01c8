"""The command line against a whole stack: what the README shows, step by step."""

import json

import pytest

from tests.command_line import CommandLine
from tests.conftest import Stack

pytestmark = pytest.mark.integration


def test_train_deploy_act_evaluate_undeploy(stack: Stack, steersman: CommandLine) -> None:
    settings = stack.settings
    steersman.configure(
        gateway_address=settings.gateway_address,
        trainer_address=settings.trainer_address,
        evaluator_address=settings.evaluator_address,
        mlflow_url=settings.mlflow_url,
        ray_dashboard_url=settings.ray_dashboard_url,
    )
    assert steersman("status").exit_code == 0

    trained = steersman(
        "train", "CartPole-v1", "--policy", "typed", "--stop-iterations", "2", "--num-env-runners", "0", "--json"
    )
    assert trained.exit_code == 0, trained.errors
    run = json.loads(trained.output)
    assert (run["state"], run["version"], run["latest"]["iteration"]) == ("succeeded", 1, 2)
    assert run["id"] in [listed["id"] for listed in json.loads(steersman("runs", "--policy", "typed", "--json").output)]
    assert "succeeded" in steersman("runs", "--policy", "typed").output
    assert json.loads(steersman("runs", "show", run["id"], "--json").output)["id"] == run["id"]

    deployed = steersman("deploy", "typed", "--json")
    assert deployed.exit_code == 0, deployed.errors
    assert json.loads(deployed.output)["state"] == "ready"
    assert "typed" in steersman("policies").output

    acted = json.loads(steersman("act", "typed", "[0.1, 0, 0, 0]", "--json").output)
    assert acted["action"] in (0, 1)
    assert acted["version"] == 1
    refused = steersman("act", "typed", "[0.1]")
    assert refused.exit_code == 1
    assert "expected observation float32[4]" in refused.errors

    evaluated = steersman("evaluate", "typed", "--episodes", "5", "--json")
    assert evaluated.exit_code == 0, evaluated.errors
    report = json.loads(evaluated.output)
    assert len(report["episodes"]) == 5
    assert report["mean_interval"]["low"] <= report["mean"] <= report["mean_interval"]["high"]
    assert "mean return" in steersman("evaluate", "typed", "--episodes", "2").output

    assert steersman("undeploy", "typed").exit_code == 0
    unknown = steersman("train", "CartPol-v1", "--stop-iterations", "1")
    assert unknown.exit_code == 1
    assert "CartPole-v1" in unknown.errors
