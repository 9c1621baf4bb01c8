"""The gate: a version is promoted only on evidence that it is better."""

from __future__ import annotations

from steersman.cli.compare import difference_in_words, run_comparison, verdict_in_words
from steersman.cli.connection import call_seconds, configured, connect
from steersman.errors import FailedPreconditionError, InvalidArgumentError
from steersman.policy_names import Address
from steersman.v1 import deployment_pb2, deployment_pb2_grpc, evaluator_pb2


def evidence_of_improvement(
    address: Address, than: str, episodes: int, seed: int, bounds: evaluator_pb2.Interval | None = None
) -> tuple[evaluator_pb2.Comparison, int]:
    """Compares what is to be promoted with an alias or a version of the same policy, and asks for a clear verdict.

    Args:
        address: What is to be promoted.
        than: An alias of the policy, or a version.
        episodes: The most that each plays.
        seed: Of the first episode.
        bounds: What every return is within, if that is known.

    Returns:
        The comparison, and the policy's revision before it: whoever changes the policy meanwhile changes what the
        comparison was about.

    Raises:
        InvalidArgumentError: If no version is named.
        FailedPreconditionError: If it is not better, or it cannot be told; the numbers are in the message.
    """
    if not address.version and not address.alias:
        raise InvalidArgumentError(
            f"expected what is to be promoted, like {address.policy}:8 or {address.policy}@candidate, "
            f"got {address.policy!r}"
        )
    candidate = f"{address.policy}{f'@{address.alias}' if address.alias else f':{address.version}'}"
    baseline = f"{address.policy}{':' if than.isdigit() else '@'}{than}"
    revision = _revision(address.policy)
    comparison = run_comparison(
        evaluator_pb2.CompareRequest(
            policy=candidate,
            baseline=baseline,
            episodes=episodes,
            seed=seed,
            sequential=True,
            return_bounds=bounds,
        )
    )
    if comparison.verdict != evaluator_pb2.VERDICT_BETTER:
        raise FailedPreconditionError(
            f"expected {address.policy}:{comparison.policy.version} to be better than "
            f"{address.policy}:{comparison.baseline.version}, but the difference over {comparison.pairs} episodes is "
            f"{difference_in_words(comparison)}: {verdict_in_words(comparison)}"
        )
    return comparison, revision


def reason(comparison: evaluator_pb2.Comparison) -> str:
    """Writes the numbers of a comparison for the audit trail."""
    baseline = comparison.baseline
    return (
        f"better than {baseline.policy}:{baseline.version} in {comparison.policy.environment_id}: difference "
        f"{difference_in_words(comparison)} over {comparison.pairs} episodes on the same seeds, mean returns "
        f"{comparison.policy.mean:.2f} and {baseline.mean:.2f}"
    )


def _revision(policy: str) -> int:
    with connect("gateway", configured().gateway_address) as channel:
        stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
        listed = stub.ListDeployments(deployment_pb2.ListDeploymentsRequest(), timeout=call_seconds()).deployments
    # What is not deployed has no revision; promoting it says so.
    return next((deployment.revision for deployment in listed if deployment.policy == policy), 0)
