"""The policy behind Ray Serve's own gRPC ingress, to compare with. Imported by Ray Serve's replicas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray import serve
from ray.serve import Application

from bench.systems.serve_apps import MAX_ONGOING_REQUESTS, GrpcPolicy
from services.common.bundle import read_bundle
from steersman.v1 import policy_pb2


class DescribedPolicy(GrpcPolicy):
    """Answers what the SDK asks: what the policy is, and for actions.

    Args:
        name: The policy's name.
        bundle: Folder of its bundle.
    """

    def __init__(self, name: str, bundle: str) -> None:
        found = read_bundle(Path(bundle))
        super().__init__(str(found.model_path))
        version = policy_pb2.PolicyVersion(version=1, spec=found.spec)
        self._description = policy_pb2.Policy(name=name, default_version=1, versions=[version])

    async def GetPolicy(self, request: policy_pb2.GetPolicyRequest) -> policy_pb2.GetPolicyResponse:  # noqa: N802
        """Describes the policy."""
        return policy_pb2.GetPolicyResponse(policy=self._description)


def autoscaled(args: dict[str, Any]) -> Application:
    """Builds the application, with Ray Serve's own autoscaling between the same numbers of replicas."""
    deployment = serve.deployment(
        DescribedPolicy,
        max_ongoing_requests=MAX_ONGOING_REQUESTS,
        autoscaling_config={"min_replicas": args["min_replicas"], "max_replicas": args["max_replicas"]},
        ray_actor_options={"num_cpus": 0.5},
        logging_config={"enable_access_log": False, "log_level": "ERROR"},
    )
    return deployment.bind(args["policy"], args["bundle"])
