"""Stable-Baselines3's own evaluation drives our client, and finds what the evaluator finds."""

from __future__ import annotations

import asyncio
import functools

import gymnasium
import pytest
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from services.common.bundle import Bundle
from steersman.client import PolicyClient
from steersman.v1 import evaluator_pb2
from tests.gateways import GatewayProcess, attached_replica
from tests.integration.services.evaluator.serving import evaluator, report_of
from tests.seeded import Seeded

pytestmark = pytest.mark.integration

_SEED = 11
_EPISODES = 14


def evaluated_by_stable_baselines3(address: str, environments: int) -> tuple[float, float, list[float]]:
    """Gives mean, standard deviation and returns of the evaluator's episodes; SB3 gives the last environments more."""
    shares = [(_EPISODES + index) // environments for index in range(environments)]
    begins = [_SEED + sum(shares[:index]) for index in range(environments)]
    returns: list[float] = []

    def make(index: int) -> Seeded:
        return Seeded(gymnasium.make("CartPole-v1"), range(begins[index], begins[index] + shares[index]))

    with PolicyClient("cartpole", address=address) as client:
        for by_episode in (False, True):
            vector = DummyVecEnv([functools.partial(make, index) for index in range(environments)])
            found = evaluate_policy(
                client, vector, n_eval_episodes=_EPISODES, return_episode_rewards=by_episode, warn=False
            )
            if by_episode:
                returns = [float(value) for value in found[0]]
            else:
                mean, deviation = found
    return float(mean), float(deviation), returns


@pytest.mark.parametrize("environments", [1, 4])
async def test_stable_baselines3_finds_the_same_mean(
    gateway: GatewayProcess, bundle: Bundle, environments: int
) -> None:
    async with attached_replica(gateway, "cartpole", {1: bundle}), evaluator(gateway.address) as stub:
        report = await report_of(stub, evaluator_pb2.EvaluateRequest(policy="cartpole", episodes=_EPISODES, seed=_SEED))
        mean, deviation, returns = await asyncio.to_thread(
            evaluated_by_stable_baselines3, gateway.address, environments
        )
    assert report.mean == pytest.approx(mean, rel=1e-12)
    # Theirs divides by n, ours by n - 1.
    assert report.standard_deviation == pytest.approx(deviation * (_EPISODES / (_EPISODES - 1)) ** 0.5, rel=1e-12)
    assert sorted(returns) == sorted(episode.episode_return for episode in report.episodes)
