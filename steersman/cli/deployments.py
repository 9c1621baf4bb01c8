"""`steersman deploy`, `undeploy` and `policies`: what is served."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import grpc
import typer

from steersman.cli import panels
from steersman.cli.changes import make_change
from steersman.cli.connection import call_seconds, configured, connect, numbers_that_fit
from steersman.cli.output import (
    JsonOption,
    RevisionOption,
    enum_name,
    note,
    plain,
    print_json,
    print_table,
    progress,
    say,
)
from steersman.errors import FailedPreconditionError, UnavailableError
from steersman.policy_names import parse_version
from steersman.v1 import deployment_pb2, deployment_pb2_grpc, policy_pb2, policy_pb2_grpc

_POLL_SECONDS = 0.2
_NO_RAY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.FAILED_PRECONDITION}


def deploy(
    policy: Annotated[str, typer.Argument(metavar="POLICY[:VERSION]", help="The newest version if none is named.")],
    replicas: Annotated[
        int,
        typer.Option(
            min=0, help="Exactly so many replicas; 0 keeps what there is, or 1.", rich_help_panel=panels.REPLICAS
        ),
    ] = 0,
    min_replicas: Annotated[
        int | None,
        typer.Option(
            min=0, help="The fewest replicas; with 0 there are none while nobody asks.", rich_help_panel=panels.REPLICAS
        ),
    ] = None,
    max_replicas: Annotated[
        int | None, typer.Option(min=1, help="The most replicas; load decides.", rich_help_panel=panels.REPLICAS)
    ] = None,
    replica_cpus: Annotated[
        float | None, typer.Option(min=0, help="Logical CPUs for each, as 0.5.", rich_help_panel=panels.REPLICAS)
    ] = None,
    replica_gpus: Annotated[
        float | None, typer.Option(min=0, help="Logical GPUs for each, as 0.25.", rich_help_panel=panels.REPLICAS)
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of a bundle that is not registered; needs a version.")
    ] = None,
    wait: Annotated[
        bool, typer.Option(help="Wait until every replica has the version.", rich_help_panel=panels.WAITING)
    ] = True,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait.", rich_help_panel=panels.WAITING)] = 120.0,
    revision: RevisionOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Serves a version of a policy, in place of the one before.

    Examples:
        steersman deploy cartpole

        steersman deploy cartpole:3 --replicas 2

        steersman deploy cartpole --min-replicas 0 --max-replicas 8 --replica-cpus 0.25
    """
    name, version = parse_version(policy)
    with numbers_that_fit():
        request = deployment_pb2.DeployRequest(
            policy=name,
            version=version,
            replicas=replicas,
            min_replicas=min_replicas,
            max_replicas=max_replicas,
            replica_cpus=replica_cpus,
            replica_gpus=replica_gpus,
            expected_revision=revision,
        )
    if bundle is not None:
        request.bundle_uri = str(bundle.absolute())
    with connect("gateway", configured().gateway_address) as channel:
        stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
        with progress() as view:
            view.add_task(f"deploying {policy}", total=None)
            deployment = make_change(stub.Deploy, request).deployment
        if wait:
            try:
                deployment = wait_until_ready(stub, deployment, timeout)
            except KeyboardInterrupt:
                note(f"{policy} is still being deployed. See how far it is with: steersman policies")
                raise
    if as_json:
        print_json(plain(deployment))
    else:
        reason = f": {deployment.message}" if deployment.message else ""
        say(f"{deployment.policy}:{deployment.version} is {_state(deployment)}{reason}")


def undeploy(
    policy: Annotated[str, typer.Argument(help="The policy.")],
    revision: RevisionOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Stops serving a policy. What its replicas have in hand is still answered.

    Example:
        steersman undeploy cartpole
    """
    with connect("gateway", configured().gateway_address) as channel:
        stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
        make_change(stub.Undeploy, deployment_pb2.UndeployRequest(policy=policy, expected_revision=revision))
    if as_json:
        print_json({"policy": policy})
    else:
        say(f"{policy} is being undeployed.")


def policies(as_json: JsonOption = False) -> None:
    """Lists what is deployed, and what of it can answer.

    Example:
        steersman policies --json
    """
    with connect("gateway", configured().gateway_address) as channel:
        served = (
            policy_pb2_grpc.PolicyServiceStub(channel)
            .ListPolicies(policy_pb2.ListPoliciesRequest(), timeout=call_seconds())
            .policies
        )
        listed = _list_deployments(deployment_pb2_grpc.DeploymentServiceStub(channel))
    deployments = listed.deployments
    for problem in listed.problems:
        note(f"Note: {problem}")
    if as_json:
        print_json(
            {
                "policies": [plain(policy) for policy in served],
                "deployments": [plain(deployment) for deployment in deployments],
                "problems": list(listed.problems),
            }
        )
        return
    by_name = {policy.name: policy for policy in served}
    wanted = {deployment.policy: deployment for deployment in deployments}
    rows = []
    for name in sorted({*by_name, *wanted}):
        policy, deployment = by_name.get(name), wanted.get(name)
        rows.append(
            (
                name,
                route_in_words(deployment) if deployment else "",
                policy.default_version if policy else "",
                f"{policy.replicas if policy else 0} of {_wanted(deployment) if deployment else '?'}",
                _state(deployment) if deployment else "attached",
                deployment.revision if deployment else "",
                deployment.message if deployment else "",
            )
        )
    columns = ("policy", "versions wanted", "answering", "replicas", "state", "revision", "")
    print_table("Policies", columns, rows, "Nothing is deployed; deploy a policy with: steersman deploy POLICY")


def _list_deployments(stub: deployment_pb2_grpc.DeploymentServiceStub) -> deployment_pb2.ListDeploymentsResponse:
    """Lists deployments; without Ray there are none, though there may be policies."""
    try:
        return stub.ListDeployments(deployment_pb2.ListDeploymentsRequest(), timeout=call_seconds())
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() in _NO_RAY:
            return deployment_pb2.ListDeploymentsResponse(problems=[error.details() or error.code().name])
        raise


def wait_until_ready(
    stub: deployment_pb2_grpc.DeploymentServiceStub, deployment: deployment_pb2.Deployment, timeout: float
) -> deployment_pb2.Deployment:
    """Waits until every replica of a deployment has its version, with a live view of what it waits for.

    Args:
        stub: The gateway.
        deployment: As `Deploy` gave it.
        timeout: Seconds to wait.

    Raises:
        FailedPreconditionError: If it fails; the reason is in the message.
        UnavailableError: If it takes too long.
    """
    deadline = time.monotonic() + timeout
    wanted = deployment.version
    name = f"{deployment.policy}:{deployment.version}"
    with progress() as view:
        task = view.add_task(name, total=None)
        while deployment.state != deployment_pb2.DEPLOYMENT_STATE_READY or deployment.version != wanted:
            if deployment.state == deployment_pb2.DEPLOYMENT_STATE_FAILED:
                raise FailedPreconditionError(f"{name} cannot be deployed: {deployment.message}")
            waits = deployment.message or f"waits for version {wanted}, but version {deployment.version} is deployed"
            if time.monotonic() > deadline:
                raise UnavailableError(f"{name} is not ready after {timeout:g} s: it {waits}")
            view.update(task, description=f"{name} {waits}")
            time.sleep(_POLL_SECONDS)
            listed = stub.ListDeployments(deployment_pb2.ListDeploymentsRequest(), timeout=call_seconds()).deployments
            deployment = next((entry for entry in listed if entry.policy == deployment.policy), deployment)
    return deployment


def route_in_words(deployment: deployment_pb2.Deployment) -> str:
    """Writes how traffic is split, such as "7 (90%), 8 (10%), shadow 9 (5%)"; one version alone as it is."""
    weights = deployment.route.weights
    if not weights:
        return str(deployment.version or "")
    total = sum(entry.weight for entry in weights)
    parts = [f"{entry.version} ({100 * entry.weight / total:.3g}%)" for entry in weights]
    if len(weights) == 1:
        parts = [str(weights[0].version)]
    if deployment.route.HasField("shadow"):
        shadow = deployment.route.shadow
        parts.append(f"shadow {shadow.version} ({100 * shadow.share:.3g}%)")
    return ", ".join(parts)


def _wanted(deployment: deployment_pb2.Deployment) -> str:
    """Says how many replicas are wanted, and within which limits where that varies."""
    fewest, most = deployment.min_replicas, deployment.max_replicas
    return f"{deployment.replicas_wanted} ({fewest} to {most})" if fewest < most else f"{deployment.replicas_wanted}"


def _state(deployment: deployment_pb2.Deployment) -> str:
    return enum_name(deployment.DESCRIPTOR.fields_by_name["state"].enum_type, deployment.state)
