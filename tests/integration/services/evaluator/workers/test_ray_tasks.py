"""Evaluations in Ray tasks of a whole stack."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import gymnasium
import psutil
import pytest

from steersman import spaces
from steersman.v1 import deployment_pb2, deployment_pb2_grpc, evaluator_pb2, evaluator_pb2_grpc
from steersman.v1.trainer_pb2 import Code
from tests.bundles import write_linear_bundle
from tests.conftest import Stack

pytestmark = pytest.mark.integration

_BEATING = """
import os
import sys
import time
from pathlib import Path
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

class Beating(CartPoleEnv):
    '''Never ends, and says in a file when it last took a step, and in which process.'''

    def __init__(self, path, hangs=False):
        super().__init__()
        self._path, self._hangs = Path(path), hangs

    def step(self, action):
        observation, reward, _, _, info = super().step(action)
        # Ray's own processes have it, and those of the evaluator have not.
        said = f"{time.time()} {os.getpid()} {'ray' in sys.modules}"
        # Whole at any moment, also when this process is killed while it writes.
        new = self._path.with_suffix(".new")
        new.write_text(said)
        new.replace(self._path)
        if self._hangs:
            time.sleep(3600)
        return self.reset()[0], reward, False, False, info

gymnasium.register("Beating-v0", "beating:Beating")
"""


@pytest.fixture(scope="module")
def evaluator(
    stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[evaluator_pb2_grpc.EvaluatorServiceStub]:
    """An evaluator, and a policy that is served by Ray."""
    bounds = spaces.from_gymnasium(gymnasium.make("CartPole-v1").observation_space)
    bundle = write_linear_bundle(tmp_path_factory.mktemp("bundle"), bounds=bounds)
    settings = stack.settings
    with (
        grpc.insecure_channel(settings.gateway_address) as to_gateway,
        grpc.insecure_channel(settings.evaluator_address) as to_evaluator,
    ):
        deployments = deployment_pb2_grpc.DeploymentServiceStub(to_gateway)
        deployments.Deploy(deployment_pb2.DeployRequest(policy="clustered", version=1, bundle_uri=str(bundle.folder)))
        deadline = time.monotonic() + 90
        while True:
            listed = deployments.ListDeployments(deployment_pb2.ListDeploymentsRequest()).deployments
            (found,) = [each for each in listed if each.policy == "clustered"]
            if found.state == deployment_pb2.DEPLOYMENT_STATE_READY:
                break
            assert time.monotonic() < deadline, found.message
            time.sleep(0.1)
        yield evaluator_pb2_grpc.EvaluatorServiceStub(to_evaluator)
        deployments.Undeploy(deployment_pb2.UndeployRequest(policy="clustered"))


def beating(folder: Path, **kwargs: bool) -> evaluator_pb2.EvaluateRequest:
    (folder / "beating").mkdir()
    (folder / "beating" / "__init__.py").write_text(_BEATING)
    request = evaluator_pb2.EvaluateRequest(
        policy="clustered",
        environment_id="beating:Beating-v0",
        episodes=2,
        num_environments=1,
        on_cluster=True,
        step_timeout_seconds=5,
        code=Code(working_dir=str(folder)),
    )
    request.environment_kwargs.update({"path": str(folder / "beat"), **kwargs})
    return request


def test_tasks_play_the_same_episodes_as_processes(evaluator: evaluator_pb2_grpc.EvaluatorServiceStub) -> None:
    reports = []
    for on_cluster in (False, True):
        request = evaluator_pb2.EvaluateRequest(
            policy="clustered", episodes=12, num_environments=6, num_workers=2, on_cluster=on_cluster
        )
        *progress, last = evaluator.Evaluate(request, timeout=120)
        assert progress[-1].progress.episodes_done == 12
        reports.append(last.report)
    assert list(reports[0].episodes) == list(reports[1].episodes)
    assert reports[1].requests > 0


def test_cancelling_stops_tasks_at_once(evaluator: evaluator_pb2_grpc.EvaluatorServiceStub, tmp_path: Path) -> None:
    """And with them the user's own code."""
    call = evaluator.Evaluate(beating(tmp_path), timeout=120)
    _, process, in_ray = until_read(tmp_path / "beat")
    assert in_ray == "True"
    playing = psutil.Process(int(process))

    call.cancel()
    cancelled = time.time()

    playing.wait(timeout=30)
    last, _, _ = until_read(tmp_path / "beat")
    # Within a second on a machine with nothing else to do.
    assert float(last) - cancelled < 5


def until_read(beat: Path) -> list[str]:
    """Waits until the environment has said how it is, and reads that whole."""
    deadline = time.monotonic() + 60
    while not beat.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return beat.read_text().split()


def test_an_environment_that_hangs_in_a_task_ends_the_evaluation(
    evaluator: evaluator_pb2_grpc.EvaluatorServiceStub, tmp_path: Path
) -> None:
    with pytest.raises(grpc.RpcError) as ended:
        list(evaluator.Evaluate(beating(tmp_path, hangs=True), timeout=120))
    assert ended.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "did not return from a reset or a step in 5 s" in (ended.value.details() or "")
