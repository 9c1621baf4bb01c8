"""A run's end in the evaluator's gate: its version takes over from another one only on evidence that it is better."""

from __future__ import annotations

import logging

import grpc

from services.trainer.records.tracking import Tracking
from steersman.client import open_channel
from steersman.environments.choice import recorded
from steersman.errors import InternalError, SteersmanError, UnavailableError, from_rpc_error
from steersman.settings import settings
from steersman.v1 import (
    deployment_pb2,
    deployment_pb2_grpc,
    evaluator_pb2,
    evaluator_pb2_grpc,
    trainer_pb2,
)

_CALL_SECONDS = 30.0
_GATE_SECONDS = 3600.0
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
        decision = _judged(run.spec, version, than)
        if not decision.passed:
            tracking.warn(run.id, f"version {version} was not promoted over {than}: {decision.reason}")
            return
        _promote(decision, _DEFAULT_ALIAS if than.isdecimal() else than)
        _log.info("version %d was promoted over %s: %s", version, than, decision.reason)
    except SteersmanError as error:
        tracking.warn(run.id, f"version {version} was not promoted over {than}: {error}")


def _judged(spec: trainer_pb2.RunSpec, version: int, than: str) -> evaluator_pb2.GateDecision:
    """Asks the evaluator, whose gate this is.

    Raises:
        SteersmanError: If the evaluator cannot be reached, or cannot tell.
    """
    # What the version was trained in is in its own spec; only the code has to be brought along.
    needs_code = recorded(spec.environment, spec.code.sha256, spec.seed).code_sha256
    request = evaluator_pb2.GateRequest(
        candidate=f"{spec.policy}:{version}",
        than=than,
        code=spec.code if needs_code else None,
        passes_if_first=True,
        longest_episode_steps=spec.evaluation.longest_episode_steps,
    )
    address = settings().evaluator_address
    try:
        with open_channel(settings().connection(address)) as channel:
            stub = evaluator_pb2_grpc.EvaluatorServiceStub(channel)
            for event in stub.Gate(request, timeout=_GATE_SECONDS):
                if event.HasField("decision"):
                    decision: evaluator_pb2.GateDecision = event.decision
                    return decision
    except (grpc.RpcError, SteersmanError) as error:
        said = from_rpc_error(error) if isinstance(error, grpc.RpcError) else error
        if isinstance(said, UnavailableError):
            raise UnavailableError(
                f"the evaluator at {address}, whose gate decides, is not available: {said}; once it is: steersman "
                f"promote {spec.policy}:{version} --if-better-than {than}"
            ) from error
        raise said from error
    raise InternalError("expected a decision from the evaluator, got none")


def _promote(decision: evaluator_pb2.GateDecision, alias: str) -> None:
    """Moves an alias and all traffic to the version that was judged.

    Raises:
        SteersmanError: If the gateway cannot be reached or refuses.
    """
    request = deployment_pb2.PromoteRequest(
        policy=decision.policy,
        version=decision.version,
        alias=alias,
        # Whoever changed the policy meanwhile has changed what the decision was about.
        expected_revision=decision.revision,
        reason=decision.reason,
    )
    try:
        with open_channel(settings().connection(settings().gateway_address)) as channel:
            stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
            stub.Promote(request, timeout=_CALL_SECONDS, metadata=_ACTOR)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from error
