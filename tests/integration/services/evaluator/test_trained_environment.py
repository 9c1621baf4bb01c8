"""A version is played in the environment that it was trained in, unless whoever asks says otherwise."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from services.common.bundle import Bundle, write_bundle
from services.common.code import pack_code
from services.evaluator.judge.archive import Archive
from steersman.arguments import from_text, set_kwargs
from steersman.environments.choice import recorded
from steersman.v1 import common_pb2, evaluator_pb2, evaluator_pb2_grpc, trainer_pb2
from tests.bundles import write_linear_bundle
from tests.gateways import GatewayProcess, attached_replica
from tests.integration.services.evaluator.serving import evaluator, report_of

pytestmark = pytest.mark.integration

_BOAT = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

class Boat(CartPoleEnv):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, {reward} * reward, terminated, truncated, info

gymnasium.register("Boat-v0", "boat:Boat", max_episode_steps=4)
"""


def trained(bundle: Bundle, folder: Path, environment: trainer_pb2.Environment, sha256: str = "") -> Bundle:
    """Copies a bundle as one that was trained in an environment."""
    spec = common_pb2.PolicySpec()
    spec.CopyFrom(bundle.spec)
    spec.environment_id = environment.id
    spec.environment.CopyFrom(recorded(environment, sha256, 7))
    return write_bundle(folder, bundle.read_model(), spec, {})


@pytest.fixture
def limited() -> trainer_pb2.Environment:
    """CartPole with a limit of its own, in a wrapper."""
    environment = trainer_pb2.Environment(id="CartPole-v1")
    set_kwargs(environment, {"max_episode_steps": 5})
    set_kwargs(environment.wrappers.add(path="gymnasium.wrappers:DelayObservation"), {"delay": 1})
    return environment


async def test_arguments_limits_and_wrappers_of_the_training_are_played(
    gateway: GatewayProcess, bundle: Bundle, tmp_path: Path, limited: trainer_pb2.Environment
) -> None:
    copy = trained(bundle, tmp_path, limited)
    async with attached_replica(gateway, "limited", {1: copy}), evaluator(gateway.address) as stub:
        report = await report_of(stub, evaluator_pb2.EvaluateRequest(policy="limited", episodes=3, seed=9))
        assert [row.length for row in report.episodes] == [5, 5, 5], "the limit that the training had"
        assert from_text(report.environment_kwargs_json) == {"max_episode_steps": 5}
        assert [wrapper.path for wrapper in report.wrappers] == ["gymnasium.wrappers:DelayObservation"]
        assert (report.environment_difference, report.seed) == ("", 9)

        request = evaluator_pb2.EvaluateRequest(
            policy="limited", episodes=1, environment_kwargs_json='{"max_episode_steps": 3}'
        )
        report = await report_of(stub, request)
        assert (report.episodes[0].length, len(report.wrappers)) == (3, 1)
        assert report.environment_difference == "limited:1 was trained with max_episode_steps=5"

        request = evaluator_pb2.EvaluateRequest(policy="limited", episodes=1, environment_as_given=True)
        report = await report_of(stub, request)
        assert report.episodes[0].length > 5
        assert "max_episode_steps=5 and in gymnasium.wrappers:Delay" in report.environment_difference


async def test_code_of_the_training_is_found_or_asked_for(
    gateway: GatewayProcess, bundle: Bundle, tmp_path: Path
) -> None:
    code = tmp_path / "code"
    code.mkdir()
    (code / "boat.py").write_text(_BOAT.format(reward=2))
    packed = pack_code(trainer_pb2.Code(working_dir=str(code)), tmp_path / "kept")
    copy = trained(bundle, tmp_path / "bundle", trainer_pb2.Environment(id="boat:Boat-v0"), packed.sha256)
    request = evaluator_pb2.EvaluateRequest(policy="boat", episodes=1)
    async with attached_replica(gateway, "boat", {1: copy}), evaluator(gateway.address) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await report_of(stub, request)
        assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        details = error.value.details() or ""
        assert f"code of its own (SHA-256 {packed.sha256[:16]}...), which is not at hand here" in details
        assert "--working-dir" in details

        given = evaluator_pb2.EvaluateRequest(policy="boat", episodes=1, code=trainer_pb2.Code(working_dir=str(code)))
        report = await report_of(stub, given)
        assert (report.episodes[0].episode_return, report.environment_difference) == (8, "")
        report = await report_of(stub, request)
        assert (report.episodes[0].episode_return, report.code_sha256) == (8, packed.sha256), "it was kept"

        (code / "boat.py").write_text(_BOAT.format(reward=3))
        report = await report_of(stub, given)
        assert report.episodes[0].episode_return == 12, "told otherwise"
        assert "with other code (SHA-256" in report.environment_difference


async def decision_of(
    stub: evaluator_pb2_grpc.EvaluatorServiceAsyncStub, request: evaluator_pb2.GateRequest
) -> evaluator_pb2.GateDecision:
    *_, last = [event async for event in stub.Gate(request)]
    return last.decision


async def test_the_gate_plays_new_episodes_where_the_candidate_was_trained(
    gateway: GatewayProcess, bundle: Bundle, tmp_path: Path, limited: trainer_pb2.Environment
) -> None:
    other = write_linear_bundle(tmp_path / "other", seed=8)
    spec = common_pb2.PolicySpec()
    spec.CopyFrom(bundle.spec)
    better = write_bundle(tmp_path / "better", other.read_model(), spec, {})
    limited.ClearField("wrappers")
    set_kwargs(limited, {"max_episode_steps": 30})
    versions = {1: bundle, 2: trained(better, tmp_path / "limited", limited)}
    archive = Archive(tmp_path / "archive", "http://127.0.0.1:9")
    request = evaluator_pb2.GateRequest(candidate="gated:2", than="1", episodes=40)
    request.return_bounds.high = 30
    async with attached_replica(gateway, "gated", versions), evaluator(gateway.address, archive) as stub:
        decisions = [await decision_of(stub, request) for _ in range(2)]
        for decision in decisions:
            assert (decision.policy, decision.version) == ("gated", 2)
            assert decision.passed == (decision.comparison.verdict == evaluator_pb2.VERDICT_BETTER)
            assert max(row.length for row in decision.comparison.policy.episodes) <= 30
            assert decision.comparison.seed == decision.comparison.policy.episodes[0].seed >= 2**22
            assert f"from {decision.comparison.seed} on" in decision.reason
            assert "CartPole-v1(max_episode_steps=30)" in decision.reason
            assert (Path(decision.comparison.artifact_uri) / "episodes.parquet").exists()
        assert decisions[0].comparison.seed != decisions[1].comparison.seed

        for candidate, than, words in (
            ("gated", "1", "like gated:8 or gated@candidate, got 'gated'"),
            ("gated:2", "", "expected what the candidate has to be better than"),
            ("gated:2", "2", "a candidate that is not '2' already"),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await decision_of(stub, evaluator_pb2.GateRequest(candidate=candidate, than=than))
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert words in (error.value.details() or "")
