"""The gate on a whole stack: a version is promoted on evidence, and the audit trail and the registry say so."""

import json
import time
from pathlib import Path

import gymnasium
import pytest
from mlflow import MlflowClient

from services.common.bundle import Bundle
from steersman import spaces
from tests.bundles import write_linear_bundle
from tests.command_line import CommandLine
from tests.conftest import Stack

pytestmark = pytest.mark.integration

_SEEDS = (1, 8)
"""Of random linear policies: version 1 plays about 50 steps, version 2 all 500."""


def register(client: MlflowClient, policy: str, bundle: Bundle) -> None:
    """Registers a bundle as the policy's next version, as a run of the trainer's does."""
    run = client.create_run(client.create_experiment(f"{policy}-{bundle.spec.model_sha256[:8]}"))
    client.log_artifacts(run.info.run_id, str(bundle.folder), "bundle")
    client.create_model_version(policy, f"{run.info.artifact_uri}/bundle", run_id=run.info.run_id)


def until(condition: str, steersman: CommandLine, policy: str, version: int) -> None:
    """Waits until a version answers."""
    deadline = time.monotonic() + 90
    while steersman("act", f"{policy}:{version}", "[0.1, 0, 0, 0]").exit_code:
        assert time.monotonic() < deadline, condition
        time.sleep(0.2)


def test_the_better_version_passes_the_gate_and_the_worse_one_does_not(
    stack: Stack, steersman: CommandLine, tmp_path: Path
) -> None:
    settings = stack.settings
    steersman.configure(
        gateway_address=settings.gateway_address,
        evaluator_address=settings.evaluator_address,
        mlflow_url=settings.mlflow_url,
        ray_dashboard_url=settings.ray_dashboard_url,
    )
    bounds = spaces.from_gymnasium(gymnasium.make("CartPole-v1").observation_space)
    client = MlflowClient(tracking_uri=settings.mlflow_url)
    client.create_registered_model("gated")
    for seed in _SEEDS:
        register(client, "gated", write_linear_bundle(tmp_path / str(seed), seed=seed, bounds=bounds))
    gate = ["--if-better-than", "champion", "--episodes", "80", "--return-bounds", "0,500"]
    try:
        deployed = steersman("deploy", "gated:1")
        assert deployed.exit_code == 0, deployed.errors
        assert steersman("promote", "gated:1").exit_code == 0
        assert steersman("alias", "gated:2", "candidate").exit_code == 0
        until("the candidate is loaded", steersman, "gated", 2)

        passed = steersman("promote", "gated@candidate", *gate)
        assert passed.exit_code == 0, passed.errors
        assert "gated:2 is better than gated:1" in passed.errors

        refused = steersman("promote", "gated:1", *gate)
        assert refused.exit_code == 1
        assert "expected gated:1 to be better than gated:2, but the difference over" in refused.errors
        assert "worse" in refused.errors

        first, *_ = json.loads(steersman("audit", "gated", "--json").output)
        assert first["action"] == "promote", "what was refused has changed nothing"
        assert first["reason"].startswith("gated:2 against gated:1 in CartPole-v1: better; difference +")
        for words in ("(interval +", "episodes on the same seeds", "mean returns"):
            assert words in first["reason"]
        assert json.loads(first["after"])["route"]["weights"] == {"2": 1.0}
        deadline = time.monotonic() + 30
        while client.get_model_version_by_alias("gated", "champion").version != "2":
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        steersman("undeploy", "gated")
