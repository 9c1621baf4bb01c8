"""The gate: a version is promoted only on evidence that it is better, which the evaluator judges."""

from __future__ import annotations

from steersman.cli.compare import difference_in_words, verdict_in_words
from steersman.cli.connection import configured, connect, events
from steersman.cli.evaluate import show_progress
from steersman.cli.output import note, progress
from steersman.errors import FailedPreconditionError, InternalError
from steersman.v1 import evaluator_pb2, evaluator_pb2_grpc


def evidence_of_improvement(request: evaluator_pb2.GateRequest) -> evaluator_pb2.GateDecision:
    """Asks for a clear verdict, with a live view. Ctrl-C ends it.

    Args:
        request: What is to take the place of what.

    Returns:
        The decision, which is that the candidate may be promoted.

    Raises:
        FailedPreconditionError: If it is not better, or it cannot be told; the numbers are in the message.
        InternalError: If the evaluator ends without a decision.
    """
    decision = _decision(request)
    comparison = decision.comparison
    version = f"{decision.policy}:{decision.version}"
    baseline = f"{comparison.baseline.policy}:{comparison.baseline.version}"
    if not decision.passed:
        raise FailedPreconditionError(
            f"expected {version} to be better than {baseline}, but the difference over {comparison.pairs} episodes is "
            f"{difference_in_words(comparison)}: {verdict_in_words(comparison)}{_whereabouts(comparison)}"
        )
    note(f"{version} is better than {baseline}: {difference_in_words(comparison)}{_whereabouts(comparison)}")
    return decision


def _decision(request: evaluator_pb2.GateRequest) -> evaluator_pb2.GateDecision:
    with connect("evaluator", configured().evaluator_address) as channel, progress() as view:
        task = view.add_task(f"comparing {request.candidate} with {request.than}", total=None)
        for event in events(evaluator_pb2_grpc.EvaluatorServiceStub(channel).Gate(request)):
            if event.HasField("decision"):
                return event.decision
            show_progress(view, task, event.progress)
    raise InternalError("expected a decision of the gate at the end, got none")


def _whereabouts(comparison: evaluator_pb2.Comparison) -> str:
    """Says where the comparison is kept, if it is, and in what it is not the training's environment."""
    notes = [comparison.policy.environment_difference, comparison.baseline.environment_difference]
    if comparison.artifact_uri:
        notes.append(f"kept in {comparison.artifact_uri}")
    return "".join(f"; {words}" for words in notes if words)
