"""Evaluations in environments and wrappers of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.bundle import Bundle
from steersman.v1 import evaluator_pb2
from steersman.v1.trainer_pb2 import Code, EnvironmentWrapper
from tests.gateways import GatewayProcess, attached_replica
from tests.integration.services.evaluator.serving import evaluator, played_here, report_of

pytestmark = pytest.mark.integration

_BOAT = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

class Boat(CartPoleEnv):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, 2 * reward, terminated, truncated, info

def halved(environment, to):
    return gymnasium.wrappers.TransformReward(environment, lambda reward: to)

gymnasium.register("Boat-v0", "boat:Boat", max_episode_steps=500)
"""


@pytest.mark.parametrize("as_module", [False, True])
async def test_an_environment_and_a_wrapper_of_ones_own(
    gateway: GatewayProcess, bundle: Bundle, tmp_path: Path, as_module: bool
) -> None:
    """The environment rewards with 2 a step; what the wrapper makes of it is not the return."""
    (tmp_path / "boat").mkdir()
    (tmp_path / "boat" / "__init__.py").write_text(_BOAT)
    wrapper = EnvironmentWrapper(path="boat:halved")
    wrapper.kwargs.update({"to": 0.5})
    request = evaluator_pb2.EvaluateRequest(
        policy="cartpole",
        environment_id="boat:Boat-v0",
        episodes=4,
        wrappers=[wrapper],
        code=Code(py_modules=[str(tmp_path / "boat")]) if as_module else Code(working_dir=str(tmp_path)),
    )
    async with attached_replica(gateway, "cartpole", {1: bundle}), evaluator(gateway.address) as stub:
        report = await report_of(stub, request)
    assert [row.episode_return for row in report.episodes] == [2 * played_here(bundle, seed) for seed in range(4)]
    assert list(report.wrappers) == [wrapper]
