"""The gate at a run's end: its version takes over from another one only on evidence that it is better."""

from __future__ import annotations

import logging
import time

import grpc

from services.trainer.records.tracking import Tracking
from steersman.client import open_channel
from steersman.errors import SteersmanError, UnavailableError, from_rpc_error
from steersman.settings import settings
from steersman.v1 import (
    deployment_pb2,
    deployment_pb2_grpc,
    evaluator_pb2,
    evaluator_pb2_grpc,
    policy_pb2,
    policy_pb2_grpc,
    trainer_pb2,
)

_CALL_SECONDS = 30.0
_LOADED_SECONDS = 120.0
_POLL_SECONDS = 0.5
_COMPARE_SECONDS = 3600.0
_EPISODES = 640
_DEFAULT_ALIAS = "champion"
_ACTOR = (("x-steersman-actor", "trainer"),)

_log = logging.getLogger(__name__)


def promote_if_better(run: trainer_pb2.Run, version: int, tracking: Tracking) -> None:
    """Promotes a version if it proves to be better than the one that the run was asked to compare it with.

    Where it does not, or this cannot be told, nothing changes but the run's warning, which says so.

    Args:
        run: The run, with the spec of its best trial if it was a sweep.
        version: The version that it has published, and deployed under its alias.
        tracking: MLflow.
    """
    than = run.spec.publishing.promote_if_better_than
    try:
        with open_channel(settings().connection(settings().gateway_address)) as channel:
            deployments = deployment_pb2_grpc.DeploymentServiceStub(channel)
            deployment = _deployment(deployments, run.spec.policy)
            _until_loaded(policy_pb2_grpc.PolicyServiceStub(channel), run.spec.policy, version)
            reason = f"there was no {than} yet"
            if than.isdecimal() or than in deployment.aliases:
                comparison = _compare(run, version, than)
                reason = _in_words(comparison)
                if comparison.verdict != evaluator_pb2.VERDICT_BETTER:
                    tracking.warn(run.id, f"version {version} was not promoted over {than}: {reason}")
                    return
            request = deployment_pb2.PromoteRequest(
                policy=run.spec.policy,
                version=version,
                alias=_DEFAULT_ALIAS if than.isdecimal() else than,
                # Whoever changed the policy meanwhile has changed what the comparison was about.
                expected_revision=deployment.revision,
                reason=reason,
            )
            deployments.Promote(request, timeout=_CALL_SECONDS, metadata=_ACTOR)
            _log.info("version %d was promoted over %s: %s", version, than, reason)
    except (grpc.RpcError, SteersmanError) as error:
        said = from_rpc_error(error) if isinstance(error, grpc.RpcError) else error
        tracking.warn(run.id, f"version {version} was not promoted over {than}: {said}")


def _deployment(stub: deployment_pb2_grpc.DeploymentServiceStub, policy: str) -> deployment_pb2.Deployment:
    listed = stub.ListDeployments(deployment_pb2.ListDeploymentsRequest(), timeout=_CALL_SECONDS).deployments
    for deployment in listed:
        if deployment.policy == policy:
            return deployment
    raise UnavailableError(f"{policy} is not deployed")


def _until_loaded(stub: policy_pb2_grpc.PolicyServiceStub, policy: str, version: int) -> None:
    """Waits until a replica has loaded a version.

    Raises:
        UnavailableError: If that takes too long.
    """
    deadline = time.monotonic() + _LOADED_SECONDS
    while True:
        try:
            stub.GetPolicy(policy_pb2.GetPolicyRequest(policy=f"{policy}:{version}"), timeout=_CALL_SECONDS)
        except grpc.RpcError as error:
            if time.monotonic() > deadline:
                raise UnavailableError(f"no replica has loaded it within {_LOADED_SECONDS:g} s: {error}") from None
            time.sleep(_POLL_SECONDS)
        else:
            return


def _compare(run: trainer_pb2.Run, version: int, than: str) -> evaluator_pb2.Comparison:
    """Has both versions play the same episodes.

    Raises:
        grpc.RpcError: If the evaluator cannot be reached, or the environment cannot be played.
    """
    spec = run.spec
    request = evaluator_pb2.CompareRequest(
        policy=f"{spec.policy}:{version}",
        baseline=f"{spec.policy}{':' if than.isdecimal() else '@'}{than}",
        environment_id=spec.environment.id,
        environment_kwargs=spec.environment.kwargs,
        wrappers=spec.environment.wrappers,
        code=spec.code if spec.HasField("code") else None,
        episodes=_EPISODES,
        seed=spec.seed,
        sequential=True,
    )
    with open_channel(settings().connection(settings().evaluator_address)) as channel:
        stub = evaluator_pb2_grpc.EvaluatorServiceStub(channel)
        *_, last = stub.Compare(request, timeout=_COMPARE_SECONDS)
    comparison: evaluator_pb2.Comparison = last.comparison
    return comparison


def _in_words(comparison: evaluator_pb2.Comparison) -> str:
    interval = comparison.difference_interval
    verdict = evaluator_pb2.Verdict.Name(comparison.verdict).removeprefix("VERDICT_").lower()
    return (
        f"over {comparison.pairs} episodes its return is higher by {comparison.difference:.3g} "
        f"({interval.low:.3g} to {interval.high:.3g}): {verdict}"
    )
