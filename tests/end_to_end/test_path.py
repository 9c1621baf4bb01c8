"""The main path through everything: train briefly, deploy, evaluate what is served, act."""

from __future__ import annotations

import itertools
import time

import grpc
import gymnasium
import httpx
import numpy as np
import pytest

from steersman import PolicyClient
from steersman.settings import Settings
from steersman.v1 import (
    deployment_pb2,
    deployment_pb2_grpc,
    evaluator_pb2,
    evaluator_pb2_grpc,
    trainer_pb2,
    trainer_pb2_grpc,
)
from tests.conftest import Stack

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

POLICY = "tiller"
ITERATIONS = 3
EPISODES = 8


@pytest.fixture(scope="module")
def settings(stack: Stack) -> Settings:
    return stack.settings


@pytest.fixture(scope="module")
def news(settings: Settings) -> list[trainer_pb2.WatchRunResponse]:
    """Everything that a short run has told."""
    spec = trainer_pb2.RunSpec(
        policy=POLICY,
        environment=trainer_pb2.Environment(id="CartPole-v1"),
        algorithm="PPO",
        stop=trainer_pb2.StopCriteria(iterations=ITERATIONS),
        seed=1,
    )
    with grpc.insecure_channel(settings.trainer_address) as channel:
        trainer = trainer_pb2_grpc.TrainerServiceStub(channel)
        run = trainer.StartRun(trainer_pb2.StartRunRequest(spec=spec)).run
        return list(trainer.WatchRun(trainer_pb2.WatchRunRequest(id=run.id), timeout=180))


@pytest.fixture(scope="module")
def version(news: list[trainer_pb2.WatchRunResponse]) -> int:
    """The version that the run registered."""
    run = news[-1].run
    assert run.state == trainer_pb2.RUN_STATE_SUCCEEDED, run.error
    return run.version


@pytest.fixture(scope="module")
def deployed(settings: Settings, version: int) -> int:
    """The version, once it is served."""
    with grpc.insecure_channel(settings.gateway_address) as channel:
        deployments = deployment_pb2_grpc.DeploymentServiceStub(channel)
        deployment = deployments.Deploy(deployment_pb2.DeployRequest(policy=POLICY)).deployment
        deadline = time.monotonic() + 120
        while deployment.state != deployment_pb2.DEPLOYMENT_STATE_READY:
            assert deployment.state != deployment_pb2.DEPLOYMENT_STATE_FAILED, deployment.message
            assert time.monotonic() < deadline, deployment.message
            time.sleep(0.1)
            listed = deployments.ListDeployments(deployment_pb2.ListDeploymentsRequest()).deployments
            deployment = next(each for each in listed if each.policy == POLICY)
    assert deployment.version == version
    return version


def test_the_run_tells_every_iteration_once_and_ends_with_a_version(
    news: list[trainer_pb2.WatchRunResponse], version: int
) -> None:
    iterations = [each.iteration for each in news if each.HasField("iteration")]

    assert news[0].HasField("run")
    assert [each.iteration for each in iterations] == list(range(1, ITERATIONS + 1))
    assert all(before.steps < after.steps for before, after in itertools.pairwise(iterations))
    assert news[-1].HasField("run")
    assert version == 1


def test_what_is_served_is_evaluated_episode_by_episode(settings: Settings, deployed: int) -> None:
    request = evaluator_pb2.EvaluateRequest(policy=POLICY, episodes=EPISODES, seed=100)
    with grpc.insecure_channel(settings.evaluator_address) as channel:
        answers = list(evaluator_pb2_grpc.EvaluatorServiceStub(channel).Evaluate(request, timeout=120))
    report = answers[-1].report

    assert (report.policy, report.version, report.environment_id) == (POLICY, deployed, "CartPole-v1")
    assert [episode.seed for episode in report.episodes] == list(range(100, 100 + EPISODES))
    # CartPole gives 1 for every step.
    assert all(episode.episode_return == episode.length for episode in report.episodes)
    returns = [episode.episode_return for episode in report.episodes]
    assert report.mean == pytest.approx(np.mean(returns))
    assert report.minimum == min(returns)
    assert report.mean_interval.low <= report.mean <= report.mean_interval.high
    assert 0 < report.action_latency_milliseconds.p50 <= report.action_latency_milliseconds.p99


def test_client_and_plain_http_give_the_same_actions(settings: Settings, deployed: int) -> None:
    space = gymnasium.make("CartPole-v1").observation_space
    space.seed(0)
    observations = np.stack([np.clip(space.sample(), -3, 3) for _ in range(32)])

    with PolicyClient(POLICY, address=settings.gateway_address) as client:
        actions = client.act(observations)
    answer = httpx.post(
        f"http://{settings.serve_http_address}/{POLICY}",
        json={"array": observations.tolist()},
        trust_env=False,
        timeout=30,
    )

    assert set(actions.tolist()) <= {0, 1}
    assert answer.json() == {"action": actions.tolist(), "version": deployed}


def test_one_played_episode_is_the_one_that_the_evaluator_reports(settings: Settings, deployed: int) -> None:
    environment = gymnasium.make("CartPole-v1")
    observation, _ = environment.reset(seed=100)
    length, done = 0, False
    with PolicyClient(f"{POLICY}:{deployed}", address=settings.gateway_address) as client:
        while not done:
            observation, _, terminated, truncated, _ = environment.step(client.act(observation).item())
            length, done = length + 1, terminated or truncated

    request = evaluator_pb2.EvaluateRequest(policy=POLICY, episodes=1, seed=100)
    with grpc.insecure_channel(settings.evaluator_address) as channel:
        *_, last = evaluator_pb2_grpc.EvaluatorServiceStub(channel).Evaluate(request, timeout=60)

    assert last.report.episodes[0].length == length
